//! Path infos from narinfos, and back.

use std::num::NonZeroU64;

use super::{Download, PathInfo};
use crate::narinfo::{Builder, Error, NarInfo, NarInfoBuf};
use crate::store_path::{StoreDir, StorePath};
use crate::trust::Fingerprint;

/// Takes all facts of the narinfo, except fields that Nix does not know.
impl From<&NarInfo<'_>> for PathInfo {
    fn from(info: &NarInfo<'_>) -> Self {
        let mut download = Download::new(info.url().to_owned());
        download.compression = Some(info.compression_name().to_owned());
        download.file_hash = info.file_hash();
        download.file_size = info.file_size();
        let mut path_info = Self::new(info.store_path().to_owned(), info.nar_hash(), info.nar_size());
        path_info.references = info.references().iter().map(StorePath::from).collect();
        path_info.deriver = info.deriver().map(StorePath::from);
        path_info.signatures = info.signatures().map(str::to_owned).collect();
        path_info.ca = info.content_address();
        path_info.download = Some(download);
        path_info
    }
}

impl PathInfo {
    /// Makes the narinfo of this path, as Nix writes it. The info must have a [`Download`], which
    /// has the URL of the NAR, and the size of the NAR must be known. Facts that a narinfo has no
    /// place for are left out: the registration time, whether the store built the path, closure
    /// sizes.
    pub fn to_narinfo(&self, store_dir: &StoreDir) -> Result<NarInfoBuf, Error> {
        let download = self.download.as_ref();
        let url = download.map_or("", |download| &download.url);
        let mut builder = Builder::new(store_dir, self.path.as_ref(), url, self.nar_hash, self.nar_size)
            .references(self.references.iter().map(StorePath::as_ref));
        if let Some(download) = download {
            // In a narinfo, none means bzip2.
            builder = builder.compression_name(download.compression.as_deref().unwrap_or("bzip2"));
            if let Some(hash) = download.file_hash {
                builder = builder.file_hash(hash);
            }
            builder = builder.file_size(download.file_size.unwrap_or(0));
        }
        if let Some(deriver) = &self.deriver {
            builder = builder.deriver(deriver.as_ref());
        }
        if let Some(address) = self.ca {
            builder = builder.content_address(address);
        }
        self.signatures.iter().fold(builder, |builder, signature| builder.signature_text(signature)).build()
    }

    /// What Nix signs of this path in a store. `None` if the size of its NAR is not known: Nix does
    /// not sign such a path.
    pub fn fingerprint<'a>(&'a self, store_dir: &'a StoreDir) -> Option<Fingerprint<'a>> {
        let nar_size = NonZeroU64::new(self.nar_size)?;
        Some(Fingerprint::of_set(store_dir, self.path.as_ref(), self.nar_hash, nar_size, &self.references))
    }
}
