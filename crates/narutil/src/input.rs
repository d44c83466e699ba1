//! Reads NARs: files or standard input, compressed or not.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use nixcache::compression::{Compression, DecodeOptions, Decompressor};

use crate::cli::{Common, Source};
use crate::failure::{Failure, Result};
use crate::output::is_standard;
use crate::progress::{Counted, Progress};
use crate::text::shown;

/// The size of reads. Measured as fast as larger ones.
pub(crate) const BUFFER: usize = 256 << 10;

/// A reader of the decompressed bytes of a NAR.
pub(crate) type Archive = Decompressor<Counted<BufReader<Box<dyn Read + Send>>>>;

/// The file to read from.
pub(crate) struct Input {
    pub(crate) path: PathBuf,
    pub(crate) file: Option<File>,
}

impl Input {
    /// Opens `path`. `-` is standard input.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fail = |error: io::Error| Failure::failed(path, error);
        if is_standard(path) {
            return Ok(Self { path: path.to_owned(), file: None });
        }
        let file = File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.is_dir() {
            return Err(fail(io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self { path: path.to_owned(), file: Some(file) })
    }

    /// A reader of the decompressed bytes, with a progress bar.
    pub(crate) fn archive(self, common: &Common, source: &Source) -> Result<(Archive, Progress)> {
        let path = self.path.clone();
        let (reader, progress) = self.counted(common);
        let options = DecodeOptions::default().with(|options| options.threads = common.threads());
        let decoder = match source.compression {
            Some(compression) => Decompressor::new(reader, compression, &options),
            None => Decompressor::detect(reader, &options),
        };
        let decoder = decoder.map_err(|error| Failure::decoding(&path, &error))?;
        tracing::info!("{}: compression {}", shown(&path), decoder.compression());
        Ok((decoder, progress))
    }

    /// A reader of the raw bytes, with a progress bar.
    pub(crate) fn counted(self, common: &Common) -> (Counted<BufReader<Box<dyn Read + Send>>>, Progress) {
        let total = self.file.as_ref().and_then(|file| file.metadata().ok()).filter(std::fs::Metadata::is_file);
        let progress = Progress::new(common, &self.path, total.map(|metadata| metadata.len()));
        let reader = progress.count(BufReader::with_capacity(BUFFER, bytes(self.file)));
        (reader, progress)
    }

    /// The file for seeking, if it is a regular file that holds an uncompressed NAR.
    pub(crate) fn seekable(&self, source: &Source) -> Result<Option<&File>> {
        use std::os::unix::fs::FileExt;
        let fail = |error: io::Error| Failure::failed(&self.path, error);
        let Some(file) = &self.file else { return Ok(None) };
        if !file.metadata().map_err(fail)?.is_file() {
            return Ok(None);
        }
        let mut head = [0; Compression::DETECT_LEN];
        let len = file.read_at(&mut head, 0).map_err(fail)?;
        let compression = source.compression.or_else(|| Compression::detect(&head[..len]));
        Ok((compression == Some(Compression::None)).then_some(file))
    }
}

/// Refuses arguments with more than one `-`, because standard input can be read only once.
pub(crate) fn once_from_standard_input<T: AsRef<OsStr>>(arguments: impl IntoIterator<Item = T>) -> Result<()> {
    let times = arguments.into_iter().filter(|argument| is_standard(Path::new(argument.as_ref()))).count();
    if times < 2 { Ok(()) } else { Err(Failure::usage("-: standard input can be read only once")) }
}

/// The contents of a file, or of standard input if there is none.
pub(crate) fn bytes(file: Option<File>) -> Box<dyn Read + Send> {
    match file {
        Some(file) => Box::new(file),
        None => Box::new(io::stdin()),
    }
}

/// Reads a text file.
pub(crate) fn text(path: &Path) -> Result<String> {
    io::read_to_string(bytes(Input::open(path)?.file)).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Failure::bad(path, "is not UTF-8"),
        _ => Failure::failed(path, error),
    })
}

/// Reads the lines of a text file.
pub(crate) fn lines(path: &Path) -> Result<Vec<String>> {
    Ok(text(path)?.lines().map(str::to_owned).collect())
}
