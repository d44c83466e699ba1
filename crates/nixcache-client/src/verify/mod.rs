//! Verifying what a cache holds against what its narinfos say.

pub(crate) mod content_address;
mod nar_file;

pub use content_address::AddressMismatch;
pub use nar_file::{Inspection, Mismatch, NarFile, NarFileError, RawFile};
