//! The compiled part of the Python package `nixcache`: the crates `nixcache` and `nixcache-client`
//! as Python classes.
//!
//! There is no logic here. Each module holds the classes of one topic: conversions, comparisons and
//! texts. Shared modules are [`buffer`] (bytes that Python owns), [`stream`] (sources and
//! destinations, Ctrl-C), [`convert`] (arguments), [`error`] (exceptions) and [`warnings`] (logging
//! of Python). The package around it, in `python/nixcache`, adds the exceptions, file objects and
//! types.

mod buffer;
mod cache;
mod convert;
mod doctor;
mod error;
mod graph;
mod hash;
mod nar;
mod narinfo;
mod queue;
mod runtime;
mod signature;
mod store_path;
mod stream;
mod warnings;

/// The compiled part of the package. `nixcache` exports its public names.
#[pyo3::pymodule]
mod _nixcache {
    use pyo3::prelude::*;

    #[pymodule_export]
    use crate::cache::{
        Audited, Cache, Collected, Finding, NarInfos, Pulled, Pushed, Repaired, Root, Signed, Verified,
    };
    #[pymodule_export]
    use crate::doctor::{Check, examine};
    #[pymodule_export]
    use crate::graph::{Closure, Difference, Graph};
    #[pymodule_export]
    use crate::hash::Hash;
    #[pymodule_export]
    use crate::narinfo::{Deviation, NarInfo};
    #[pymodule_export]
    use crate::queue::{Drained, Queue};
    #[pymodule_export]
    use crate::runtime::Progress;
    #[pymodule_export]
    use crate::signature::{PublicKey, SecretKey, Signature, TrustedKeys, Verdict};
    #[pymodule_export]
    use crate::store_path::{ContentAddress, StorePath};

    #[pymodule_export]
    use crate::hash::nixbase32;
    #[pymodule_export]
    use crate::nar::nar;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        crate::warnings::collect();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
