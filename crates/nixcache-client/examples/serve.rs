//! Serves a store as a binary cache over HTTP, with axum: narinfos are made from Nix's database and
//! signed, NARs are packed while they are sent.
//!
//! `serve KEY-FILE [ADDRESS [ROOT]]`, for example `serve cache.secret 127.0.0.1:8080`. The store is
//! in `ROOT/nix/store`, its database in `ROOT/nix/var/nix/db`. A client takes no thread and little
//! memory, however slow it is.

use std::error::Error;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Response, StatusCode, header};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nixcache::hash::Format;
use nixcache::nar::Packer;
use nixcache::narinfo::{CacheInfo, hash_part_of_file_name};
use nixcache::path_info::{Download, PathInfo};
use nixcache::signature::SecretKey;
use nixcache::store_path::{HashPart, StoreDir};
use nixcache_client::store_database::StoreDatabase;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let key = arguments.next().ok_or("usage: serve KEY-FILE [ADDRESS [ROOT]]")?;
    let key = std::fs::read_to_string(key)?.parse()?;
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let router = router(arguments.next().unwrap_or_else(|| "/".to_owned()).into(), key);
    // Clients share the threads that read the store.
    let runtime = tokio::runtime::Builder::new_multi_thread().max_blocking_threads(8).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        println!("http://{}", listener.local_addr()?);
        serve(listener, router).await;
        Ok(())
    })
}

/// Answers clients until it is dropped. `axum::serve(listener, router)` does too, but buffers 400
/// KiB for a slow client.
pub(crate) async fn serve(listener: TcpListener, router: Router) {
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            // Too many open files, for example: wait until clients have gone.
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        let mut http = http1::Builder::new();
        let http = http.timer(TokioTimer::new()).max_buf_size(64 << 10);
        let service = TowerToHyperService::new(router.clone());
        // A client that goes away is an error of its connection only.
        tokio::spawn(http.serve_connection(TokioIo::new(connection), service));
    }
}

/// A store to serve.
struct Store {
    root: PathBuf,
    dir: StoreDir,
    key: SecretKey,
}

type Answer<T> = Result<T, StatusCode>;

/// What serves the store below `root`.
pub(crate) fn router(root: PathBuf, key: SecretKey) -> Router {
    let dir = StoreDir::default();
    let info = CacheInfo::default().with(|info| (info.want_mass_query, info.priority) = (true, Some(30)));
    Router::new()
        .route("/nix-cache-info", get(async move || info.to_string()))
        .route("/{name}", get(narinfo))
        .route("/nar/{name}", get(nar))
        .with_state(Arc::new(Store { root, dir, key }))
}

async fn narinfo(State(store): State<Arc<Store>>, Path(name): Path<String>) -> Answer<String> {
    let mut info = store.find(hash_part_of_file_name(&name)).await?;
    let mut download = Download::new(format!("nar/{}", nar_name(&info)));
    (download.compression, download.file_size) = (Some("none".to_owned()), Some(info.nar_size));
    info.download = Some(download);
    let signature = info.fingerprint(&store.dir).map(|text| store.key.sign(&text.to_vec()));
    info.signatures.extend(signature.map(|signature| signature.to_string()));
    Ok(info.to_narinfo(&store.dir).map_err(failed)?.into_string())
}

async fn nar(State(store): State<Arc<Store>>, Path(name): Path<String>, asked: HeaderMap) -> Answer<Response<Body>> {
    let info = store.find(name.get(..32).and_then(|part| part.parse().ok())).await?;
    if name != nar_name(&info) {
        return Err(StatusCode::NOT_FOUND);
    }
    let (size, Range { start, end }) = (info.nar_size, range(&asked, info.nar_size));
    let answer = Response::builder()
        .header(header::CONTENT_TYPE, "application/x-nix-nar")
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_LENGTH, end - start);
    let answer = match end - start {
        0 => return Err(StatusCode::RANGE_NOT_SATISFIABLE),
        len if len == size => answer,
        _ => answer
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{size}", end - 1)),
    };
    let path = store.root.join("nix/store").join(&info.path);
    let body = Packer::new().stream_from(&path, start).take_bytes(end - start);
    // A thread is busy for one read, not while the client is slow.
    answer.body(Body::from_stream(body.reading_on(|read| drop(spawn_blocking(read))))).map_err(failed)
}

/// The name says which contents are meant, since those of a path can change.
fn nar_name(info: &PathInfo) -> String {
    format!("{}-{}.nar", info.path.hash_part(), info.nar_hash.display_digest(Format::Nix32))
}

/// The bytes that a client asks for, all if it does not ask for one range.
fn range(asked: &HeaderMap, size: u64) -> Range<u64> {
    let range = asked.get(header::RANGE).and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    match range.map(|(first, last)| (first.parse::<u64>(), last.parse::<u64>(), first.len(), last.len())) {
        Some((Ok(first), Ok(last), ..)) if first <= last => first.min(size)..last.saturating_add(1).min(size),
        Some((Ok(first), Err(_), _, 0)) => first.min(size)..size,
        Some((Err(_), Ok(last), 0, _)) => size.saturating_sub(last)..size,
        _ => 0..size,
    }
}

/// A failure is no 404: the path may be there.
fn failed(error: impl Error) -> StatusCode {
    eprintln!("{error}");
    StatusCode::INTERNAL_SERVER_ERROR
}

impl Store {
    async fn find(self: &Arc<Self>, part: Option<HashPart>) -> Answer<PathInfo> {
        let (store, part) = (Arc::clone(self), part.ok_or(StatusCode::NOT_FOUND)?);
        let found = spawn_blocking(move || {
            let file = store.root.join("nix/var/nix/db/db.sqlite");
            StoreDatabase::open(&file, &store.dir)?.path_info_by_hash_part(part)
        });
        found.await.map_err(failed)?.map_err(failed)?.ok_or(StatusCode::NOT_FOUND)
    }
}
