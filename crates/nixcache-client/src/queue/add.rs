//! Adding entries to a queue.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nixcache::store_path::{StoreDir, StorePathRef};

use super::{Error, Queue};

impl Queue {
    /// Adds an entry with these paths, and returns its file. The paths are published together.
    ///
    /// The entry appears complete or not at all, and is on the disk when this returns.
    ///
    /// ```
    /// use nixcache::store_path::{StoreDir, StorePath};
    /// use nixcache_client::queue::Queue;
    ///
    /// let directory = tempfile::tempdir()?;
    /// let queue = Queue::new(directory.path().to_owned());
    /// let path = StorePath::parse("g1w7hy3qg1w7hy3qg1w7hy3qg1w7hy3q-hello-2.12")?;
    /// queue.add(&StoreDir::default(), [path.as_ref()])?;
    /// assert!(!queue.is_empty()?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Returns an error if there are no paths, or if the directory cannot be written to.
    pub fn add<'a>(
        &self,
        store_dir: &StoreDir,
        paths: impl IntoIterator<Item = StorePathRef<'a>>,
    ) -> Result<PathBuf, Error> {
        let fail = |error| Error { path: self.directory.clone(), error };
        let mut lines: Vec<String> = paths.into_iter().map(|path| store_dir.display(path).to_string()).collect();
        if lines.is_empty() {
            return Err(fail(io::Error::new(io::ErrorKind::InvalidInput, "an entry needs a path")));
        }
        lines.push(String::new());
        let text = lines.join("\n");
        let write = || {
            // Another user may publish the entry, so the umask decides.
            let permissions = Permissions::from_mode(0o666);
            let mut file = tempfile::Builder::new()
                .prefix(".")
                .suffix(".tmp")
                .permissions(permissions)
                .tempfile_in(&self.directory)?;
            file.write_all(text.as_bytes())?;
            file.as_file().sync_all()?;
            let name = self.directory.join(format!("{:016x}", crate::random::unique_number()));
            file.persist_noclobber(&name).map_err(|error| error.error)?;
            File::open(&self.directory)?.sync_all()?;
            Ok(name)
        };
        write().map_err(fail)
    }
}
