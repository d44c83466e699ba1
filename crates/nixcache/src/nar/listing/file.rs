//! One file inside an archive that is not compressed, by its place in the listing.

use std::io::{self, Read, Seek, SeekFrom};

use super::{ListingNode, NodeKind};

impl ListingNode<'_> {
    /// Opens the file that this node is, in the archive that it is listed from; byte 0 of `archive`
    /// is the archive's first. Nothing but the contents is read, so nothing checks that this is the
    /// archive of the listing.
    ///
    /// ```
    /// # use nixcache::nar::{Listing, Writer};
    /// # let mut writer = Writer::new(Vec::new());
    /// # writer.directory(b"")?;
    /// # writer.file(b"motd", false, b"hello")?;
    /// # writer.end()?;
    /// # let nar = writer.finish()?;
    /// # let listing = Listing::from_slice(&nar)?;
    /// # let archive = std::io::Cursor::new(nar);
    /// let node = listing.root().get(b"motd").ok_or("no such file")?;
    /// assert_eq!(std::io::read_to_string(node.open(archive)?)?, "hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// An error of kind [`InvalidInput`](io::ErrorKind::InvalidInput) if the node is not a regular
    /// file, or the listing does not say where its contents are.
    pub fn open<R: Read + Seek>(self, mut archive: R) -> io::Result<FileReader<R>> {
        let invalid = |reason| io::Error::new(io::ErrorKind::InvalidInput, reason);
        let NodeKind::File { size, offset, .. } = self.kind() else {
            return Err(invalid("only a regular file has contents"));
        };
        let start = offset.ok_or_else(|| invalid("the listing does not say where the file's contents are"))?;
        if start.checked_add(size).is_none() {
            return Err(invalid("the listing puts the file's contents beyond the end of any archive"));
        }
        archive.seek(SeekFrom::Start(start))?;
        Ok(FileReader { archive, start, size, at: 0 })
    }
}

/// The contents of one file inside an archive. Made by [`ListingNode::open`].
///
/// If the archive ends before they do, the error is of kind
/// [`UnexpectedEof`](io::ErrorKind::UnexpectedEof).
#[derive(Debug)]
pub struct FileReader<R> {
    archive: R,
    start: u64,
    size: u64,
    /// Position in the file. The archive stands at `start` plus this, but never beyond the file's
    /// end.
    at: u64,
}

impl<R: Read> Read for FileReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let remaining = self.size.saturating_sub(self.at);
        let len = usize::try_from(remaining).map_or(out.len(), |remaining| remaining.min(out.len()));
        if len == 0 {
            return Ok(0);
        }
        let read = self.archive.read(&mut out[..len])?;
        if read == 0 {
            let message = format!("the archive ends {remaining} bytes before the end of the file");
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.at += read as u64;
        Ok(read)
    }
}

impl<R: Seek> Seek for FileReader<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        let at =
            at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek to before the start of the file"))?;
        self.archive.seek(SeekFrom::Start(self.start + at.min(self.size)))?;
        self.at = at;
        Ok(at)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        Ok(self.at)
    }
}
