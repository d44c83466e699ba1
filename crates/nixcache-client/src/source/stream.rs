//! The one stream of path infos that all sources give.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use futures_util::stream::StreamExt;
use nixcache::narinfo::{NarInfo, hash_part_of_file_name};
use nixcache::path_info::{Agreement, Heard, PathInfo, PathInfos, export, registration};
use nixcache::store_path::{HashPart, StoreDir};

use super::{Error, Source};
use crate::cache::{self, Cache, CacheOptions, CacheUrl, layout, open_regular};
#[cfg(feature = "sqlite")]
use crate::store_database::StoreDatabase;

/// Bytes that are read at once, the size that measured best for NAR files.
const BUFFER: usize = 256 << 10;

/// A source of path infos, open.
#[derive(Debug)]
pub struct Stream {
    path: PathBuf,
    store_dir: StoreDir,
    input: Input,
}

enum Input {
    #[cfg(feature = "sqlite")]
    Database(StoreDatabase),
    Registration(registration::RegistrationReader<Box<dyn BufRead>>),
    Json(PathInfos),
    Export(export::ExportReader<Box<dyn BufRead>>),
    Cache(fs::ReadDir),
    Remote(Receiver<Result<PathInfo, Error>>),
    Infos(Vec<PathInfo>),
}

impl Stream {
    pub(super) fn open(source: &Source, store_dir: &StoreDir) -> Result<Self, Error> {
        let path = source.path().to_owned();
        let failed = |error| Error::Io { file: path.clone(), error };
        let input = match source {
            #[cfg(feature = "sqlite")]
            Source::Database(file) => Input::Database(StoreDatabase::open(file, store_dir)?),
            #[cfg(not(feature = "sqlite"))]
            Source::Database(_) => return Err(Error::NotCompiled { file: path, feature: "sqlite" }),
            Source::Registration(file) => {
                Input::Registration(registration::RegistrationReader::new(reader(file).map_err(failed)?, store_dir))
            }
            Source::Json(file) => {
                let mut text = Vec::new();
                reader(file).and_then(|mut file| file.read_to_end(&mut text)).map_err(failed)?;
                let infos = PathInfos::parse_json(&text, store_dir);
                Input::Json(infos.map_err(|error| Error::Json { file: file.clone(), error })?)
            }
            Source::Export(file) => Input::Export(export::ExportReader::new(reader(file).map_err(failed)?, store_dir)),
            Source::Cache(directory) => {
                if !fs::metadata(directory).map_err(failed)?.is_dir() {
                    return Err(Error::NoDirectory { file: path });
                }
                Input::Cache(fs::read_dir(directory).map_err(failed)?)
            }
            Source::Remote { url, .. } => Input::Remote(remote(url, store_dir).map_err(failed)?),
        };
        Ok(Self { path, store_dir: store_dir.clone(), input })
    }

    /// The path infos that are given, such as those that [`walk`](super::walk) found. Errors name
    /// `path`.
    pub fn of(path: PathBuf, store_dir: &StoreDir, infos: Vec<PathInfo>) -> Self {
        Self { path, store_dir: store_dir.clone(), input: Input::Infos(infos) }
    }

    /// Why this may be incomplete, if there is a reason.
    pub fn warning(&self) -> Option<String> {
        #[cfg(feature = "sqlite")]
        if let Input::Database(database) = &self.input {
            let bytes = database.unread_wal()?;
            return Some(format!(
                "{}: recent changes may be missing: {bytes} bytes of them are in a -wal beside it, which can only be \
                 read where its directory can be written to",
                self.path.display()
            ));
        }
        None
    }

    /// Gives each path to `each`, until it breaks off.
    pub fn visit<B>(self, mut each: impl FnMut(PathInfo) -> ControlFlow<B>) -> Result<ControlFlow<B>, Error> {
        let Self { path: file, store_dir, input } = self;
        match input {
            #[cfg(feature = "sqlite")]
            Input::Database(database) => Ok(database.visit(each)?),
            Input::Json(infos) => Ok(infos.valid.into_iter().try_for_each(each)),
            Input::Registration(mut reader) => try_visit(
                std::iter::from_fn(|| {
                    Some(reader.next()?.map_err(|error| Error::Registration { file: file.clone(), error }))
                }),
                each,
            ),
            Input::Export(mut reader) => {
                let mut agreement = Agreement::default();
                let infos = std::iter::from_fn(|| {
                    Some(reader.next()?.map_err(|error| Error::Export { file: file.clone(), error }))
                });
                let heard = infos.filter_map(|info| match info.map(|info| (agreement.hear(&info), info)) {
                    Ok((Heard::New, info)) => Some(Ok(info)),
                    Ok((Heard::Again, _)) => None,
                    Ok((_, info)) => {
                        let path = store_dir.display(info.path.as_ref()).to_string();
                        Some(Err(Error::Disagreement { file: file.clone(), path }))
                    }
                    Err(error) => Some(Err(error)),
                });
                try_visit(heard, each)
            }
            Input::Cache(entries) => {
                let mut text = Vec::new();
                for entry in entries {
                    let entry = entry.map_err(|error| Error::Io { file: file.clone(), error })?;
                    let name = entry.file_name();
                    let Some(hash_part) = name.to_str().and_then(hash_part_of_file_name) else { continue };
                    let info = narinfo(&entry.path(), hash_part, &mut text, &store_dir)?;
                    if let ControlFlow::Break(value) = each(info) {
                        return Ok(ControlFlow::Break(value));
                    }
                }
                Ok(ControlFlow::Continue(()))
            }
            Input::Remote(infos) => try_visit(infos.into_iter(), each),
            Input::Infos(infos) => Ok(infos.into_iter().try_for_each(each)),
        }
    }
}

fn try_visit<B>(
    infos: impl Iterator<Item = Result<PathInfo, Error>>,
    mut each: impl FnMut(PathInfo) -> ControlFlow<B>,
) -> Result<ControlFlow<B>, Error> {
    for info in infos {
        if let ControlFlow::Break(value) = each(info?) {
            return Ok(ControlFlow::Break(value));
        }
    }
    Ok(ControlFlow::Continue(()))
}

fn reader(file: &Path) -> io::Result<Box<dyn BufRead>> {
    if file == Path::new("-") {
        return Ok(Box::new(BufReader::with_capacity(BUFFER, io::stdin())));
    }
    Ok(Box::new(BufReader::with_capacity(BUFFER, File::open(file)?)))
}

/// Reads a narinfo, through a buffer that is used again and again.
fn narinfo(file: &Path, hash_part: HashPart, text: &mut Vec<u8>, store_dir: &StoreDir) -> Result<PathInfo, Error> {
    // A byte more than may be, so that too much is noticed.
    const MOST: u64 = NarInfo::MAX_LEN as u64 + 1;
    text.clear();
    open_regular(file)
        .and_then(|opened| opened.take(MOST).read_to_end(text))
        .map_err(|error| Error::Io { file: file.to_owned(), error })?;
    let decoded = cache::decode_narinfo(&file.display().to_string(), text)?;
    parse(file, hash_part, decoded.as_deref().unwrap_or(text), store_dir)
}

fn parse(file: &Path, hash_part: HashPart, text: &[u8], store_dir: &StoreDir) -> Result<PathInfo, Error> {
    let info = NarInfo::parse(text, store_dir).map_err(|error| Error::NarInfo { file: file.to_owned(), error })?;
    if info.store_path().hash_part() != hash_part {
        let path = store_dir.display(info.store_path()).to_string();
        return Err(Error::Misplaced { file: file.to_owned(), path });
    }
    Ok(PathInfo::from(&info))
}

/// Has a cache on another machine read by a thread of its own: who reads the stream may be on one
/// of a runtime, which must not block.
fn remote(url: &CacheUrl, store_dir: &StoreDir) -> io::Result<Receiver<Result<PathInfo, Error>>> {
    /// Infos that wait for who reads the stream.
    const WAITING: usize = 256;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, receiver) = sync_channel(WAITING);
    let (url, store_dir) = (url.clone(), store_dir.clone());
    thread::Builder::new().name("source".to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(send_all(&url, &store_dir, &sender)) {
            // The reader may be gone.
            let _ = sender.send(Err(error));
        }
    })?;
    Ok(receiver)
}

async fn send_all(
    url: &CacheUrl,
    store_dir: &StoreDir,
    sender: &SyncSender<Result<PathInfo, Error>>,
) -> Result<(), Error> {
    let cache = Cache::open(url, CacheOptions::default()).await?;
    let narinfos: Vec<String> = cache.list_narinfos().await?.into_keys().map(layout::narinfo).collect();
    if narinfos.is_empty() && cache.head(layout::CACHE_INFO).await?.is_none() {
        return Err(cache::Error::NoCache { cache: url.to_string() }.into());
    }
    let mut read = cache.read_many(narinfos);
    while let Some((name, text)) = read.next().await {
        // What was withdrawn since is none.
        let (Some(text), Some(hash_part)) = (text?, hash_part_of_file_name(&name)) else { continue };
        let info = parse(Path::new(&cache.display_name(&name)), hash_part, &text, store_dir)?;
        if sender.send(Ok(info)).is_err() {
            break;
        }
    }
    Ok(())
}

impl fmt::Debug for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "sqlite")]
            Self::Database(_) => "Database",
            Self::Registration(_) => "Registration",
            Self::Json(_) => "Json",
            Self::Export(_) => "Export",
            Self::Cache(_) => "Cache",
            Self::Remote(_) => "Remote",
            Self::Infos(_) => "Infos",
        })
    }
}
