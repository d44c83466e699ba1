//! Staging one path: from its tree to the objects to upload, in one pass.

use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use nixcache::compression::{Compression, Compressor, EncodeOptions};
use nixcache::hash::{Algorithm, Hash, Hasher};
use nixcache::nar::references::Candidates;
use nixcache::nar::{Limits, Listing, Observer, PackError, Packer};
use nixcache::narinfo::NarInfoBuf;
use nixcache::path_info::{Download, PathInfo};
use nixcache::signature::SecretKey;
use nixcache::store_path::{ContentAddress, Method, StoreDir, StorePath};

use super::{NarMismatch, PushEvent, PushPathError, UploadSubject};
use crate::cache::{Staging, layout};
use crate::progress::Progress;

/// From this size on, a NAR is packed and compressed with several threads.
const PARALLEL_NAR_MIN_BYTES: u64 = 32 << 20;

/// Settings that all paths of a push share.
#[derive(Clone)]
pub(super) struct Stager {
    pub(super) store_dir: StoreDir,
    pub(super) compression: EncodeOptions,
    pub(super) threads: NonZeroUsize,
    pub(super) limits: Limits,
    pub(super) keys: Arc<[SecretKey]>,
    pub(super) candidates: Option<Arc<Candidates>>,
    pub(super) listing: bool,
    pub(super) progress: Progress<PushEvent>,
    pub(super) stopped: Arc<AtomicBool>,
}

/// A path, ready to be uploaded.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) staging: Staging,
    pub(super) info: PathInfo,
    pub(super) narinfo: NarInfoBuf,
    /// The listing of the NAR.
    pub(super) listing: Option<Listing>,
    /// The text of the listing's object. `None` if a name is not UTF-8, so that it cannot be
    /// written.
    pub(super) listing_text: Option<Bytes>,
    pub(super) undeclared: Vec<String>,
}

impl Stager {
    /// Packs, compares, compresses, hashes, lists and signs a path.
    pub(super) fn stage(
        &self,
        subject: &UploadSubject,
        tree: &Path,
        staging: Staging,
    ) -> Result<Staged, PushPathError> {
        let expected = match subject {
            UploadSubject::Known(info) => Some(info),
            UploadSubject::New { .. } => None,
        };
        let mut observer = Observer::new().check(self.limits).hash(Algorithm::Sha256).map_err(PushPathError::Hash)?;
        if self.listing {
            observer = observer.listing();
        }
        if let Some(candidates) = &self.candidates {
            observer = observer.references(candidates);
        }
        let is_large = expected.is_some_and(|info| info.nar_size >= PARALLEL_NAR_MIN_BYTES);
        let threads = if is_large { self.threads } else { NonZeroUsize::MIN };
        let options = self.compression.with(|options| {
            options.threads = threads;
            options.frame_size = EncodeOptions::FRAME_SIZE;
        });
        // Without compression, the NAR and its file are the same, and are hashed once.
        let is_stored = options.compression == Compression::None;
        let file = Hashed { inner: staging, hasher: (!is_stored).then(Hasher::sha256), size: 0 };
        let mut encoder = Compressor::new(file, &options).map_err(PushPathError::Compression)?;
        let sink = Watched { inner: &mut encoder, progress: &self.progress, stopped: &self.stopped };
        let packer = Packer::new().limits(self.limits).threads(threads);
        let seen = packer.pack(tree, sink, observer).map_err(|error| match error {
            PackError::Write(error) => PushPathError::Stage(error),
            error => PushPathError::Pack(error),
        })?;
        let nar_hash = seen.hashes[0];
        if let Some(info) = expected {
            let is_known = info.nar_size != 0;
            if info.nar_hash != nar_hash || (is_known && info.nar_size != seen.size) {
                return Err(PushPathError::Mismatch(Box::new(NarMismatch {
                    registered: info.nar_hash,
                    registered_size: info.nar_size,
                    found: nar_hash,
                    found_size: seen.size,
                })));
            }
        }
        let file = encoder.finish().map_err(PushPathError::Stage)?;
        let file_hash = file.hasher.map_or(nar_hash, Hasher::finish);

        let mut info = match subject {
            UploadSubject::Known(info) => PathInfo::clone(info),
            UploadSubject::New { name } => self.name(name, nar_hash, seen.size)?,
        };
        info.nar_size = seen.size;
        let mut download = Download::new(layout::nar(file_hash, options.compression));
        download.compression = Some(options.compression.name().to_owned());
        download.file_hash = Some(file_hash);
        download.file_size = Some(file.size);
        info.download = Some(download);
        self.sign(&mut info);
        let narinfo = info.to_narinfo(&self.store_dir).map_err(PushPathError::NarInfo)?;

        let undeclared = self.undeclared(&info, &seen.references);
        let listing_text = seen.listing.as_ref().and_then(|listing| {
            let mut text = Vec::new();
            listing.root().write_document(&mut text).is_ok().then(|| text.into())
        });
        Ok(Staged { staging: file.inner, info, narinfo, listing: seen.listing, listing_text, undeclared })
    }

    /// The path that `nix store add` makes from a tree.
    fn name(&self, name: &str, nar_hash: Hash, nar_size: u64) -> Result<PathInfo, PushPathError> {
        let address = ContentAddress::new(Method::Nar, nar_hash).map_err(PushPathError::Name)?;
        let path = self.store_dir.make_path(name, &address, &[], false).map_err(PushPathError::Name)?;
        let mut info = PathInfo::new(path, nar_hash, nar_size);
        info.ca = Some(address);
        Ok(info)
    }

    fn sign(&self, info: &mut PathInfo) {
        if self.keys.is_empty() {
            return;
        }
        // A NAR is never empty, so the fingerprint exists.
        let Some(fingerprint) = info.fingerprint(&self.store_dir).map(|fingerprint| fingerprint.to_vec()) else {
            return;
        };
        for key in self.keys.iter() {
            // An older signature by the same key is redundant.
            let name = format!("{}:", key.name().as_str());
            info.signatures.retain(|signature| !signature.starts_with(&name));
            info.signatures.insert(key.sign(&fingerprint).to_string());
        }
    }

    /// Paths that occur in the contents but are not registered as references.
    fn undeclared(&self, info: &PathInfo, found: &[usize]) -> Vec<String> {
        let Some(candidates) = &self.candidates else { return Vec::new() };
        let is_declared = |part: &str| info.references.iter().any(|path| path.as_ref().hash_text() == part);
        let parts = found.iter().filter_map(|index| candidates.hash_part(*index));
        parts.filter(|part| !is_declared(part) && info.path.as_ref().hash_text() != *part).map(str::to_owned).collect()
    }
}

/// Hashes and counts the bytes that are staged.
struct Hashed {
    inner: Staging,
    hasher: Option<Hasher>,
    size: u64,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes[..written]);
        }
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Reports the progress of packing, and fails once the push has ended.
struct Watched<'a, W> {
    inner: W,
    progress: &'a Progress<PushEvent>,
    stopped: &'a AtomicBool,
}

impl<W: Write> Write for Watched<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(io::Error::other("the push has ended"));
        }
        let written = self.inner.write(bytes)?;
        self.progress.report(PushEvent::Packed { bytes: written as u64 });
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The objects that index the debug information of a NAR by build ID: one for each file
/// `lib/debug/.build-id/XX/YYYY.debug` of the path, as Nix writes them.
pub(super) fn debug_info(listing: &Listing, url: &str) -> Vec<(String, Bytes)> {
    const FOLDER: &str = "lib/debug/.build-id";
    let is_hex = |text: &[u8], len| text.len() == len && text.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let Some(folder) = listing.root().get(FOLDER.as_bytes()) else { return Vec::new() };
    let mut objects = Vec::new();
    for first in folder.children().filter(|child| is_hex(child.name(), 2)) {
        for rest in first.children() {
            let is_debug = rest.name().strip_suffix(b".debug").is_some_and(|id| is_hex(id, 38));
            if !is_debug || !matches!(rest.kind(), nixcache::nar::NodeKind::File { .. }) {
                continue;
            }
            let (first, rest) = (String::from_utf8_lossy(first.name()), String::from_utf8_lossy(rest.name()));
            let text =
                serde_json::json!({ "archive": format!("../{url}"), "member": format!("{FOLDER}/{first}/{rest}") });
            objects.push((format!("debuginfo/{first}{rest}"), text.to_string().into()));
        }
    }
    objects
}

/// Reads the log of the build that made a path, from the logs of a local Nix. `None` if there is
/// none.
pub(super) fn build_log(logs: &Path, deriver: &StorePath) -> io::Result<Option<Vec<u8>>> {
    use nixcache::compression::{DecodeOptions, Decompressor};
    use std::io::Read;
    let name = deriver.to_string();
    let (folder, rest) = name.split_at(2);
    let plain = logs.join(folder).join(rest);
    for file in [plain.clone(), logs.join(folder).join(format!("{rest}.bz2"))] {
        let log = match std::fs::File::open(&file) {
            Ok(log) => io::BufReader::new(log),
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let compression = if file == plain { Compression::None } else { Compression::Bzip2 };
        let mut text = Vec::new();
        Decompressor::new(log, compression, &DecodeOptions::default())
            .map_err(io::Error::other)?
            .read_to_end(&mut text)?;
        return Ok(Some(text));
    }
    Ok(None)
}
