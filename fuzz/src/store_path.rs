//! The promises of store paths, content addresses and the URLs of NARs: each prints as it is read.

use nixcache::hash::Format;
use nixcache::narinfo::{CacheInfo, NarName, NarUrl, file_name, hash_part_of_file_name};
use nixcache::store_path::{ContentAddress, StoreDir, StorePath, StorePathRef};

/// Store paths print as they stood there; content addresses and what a cache says of itself print
/// as what reads the same; the URL of a NAR is what its parts say, and stays within its cache.
pub fn store_path(data: &[u8]) {
    if let Ok(info) = CacheInfo::parse(data) {
        assert_eq!(CacheInfo::parse(info.to_string().as_bytes()), Ok(info));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let text = text.strip_suffix('\n').unwrap_or(text);
    match StorePathRef::parse(text) {
        Ok(path) => {
            assert_eq!(path.as_str(), text);
            assert_eq!(StorePath::new(path.hash_part(), path.name()), Ok(path.to_owned()));
        }
        Err(error) => assert!(error.to_string().len() < 600, "{error}"),
    }
    let store_dir = StoreDir::default();
    if let Ok(path) = store_dir.parse(text) {
        assert_eq!(store_dir.display(path).to_string(), text);
    }
    if let Ok(store_dir) = StoreDir::new(text) {
        assert_eq!(store_dir.to_string(), text);
    }
    match ContentAddress::parse(text) {
        Ok(address) => {
            assert_eq!(ContentAddress::parse(&address.to_string()), Ok(address));
            let made = store_dir.make_path("name", &address, &[], false).expect("without references, all can be made");
            assert!(store_dir.is_content_addressed(made.as_ref(), &address, []));
        }
        Err(error) => assert!(error.to_string().len() < 600, "{error}"),
    }
    if let Some(hash_part) = hash_part_of_file_name(text) {
        assert_eq!(file_name(hash_part), text);
    }
    nar_url(text);
}

fn nar_url(text: &str) {
    let url = match NarUrl::parse(text) {
        Ok(url) => url,
        Err(error) => return assert!(error.to_string().len() < 600, "{error}"),
    };
    let whole = url.query.map_or_else(|| url.path.to_owned(), |query| format!("{}?{query}", url.path));
    assert_eq!(whole, text);
    assert_eq!(url.is_absolute, url.path.contains("://"));
    if !url.is_absolute {
        assert!(url.path.split('/').all(|part| !matches!(part, "" | "." | "..")));
        assert!(url.path.bytes().all(|byte| byte.is_ascii_graphic()));
    }
    let stem = match url.name {
        NarName::Hash(hash) => hash.display_digest(Format::Nix32).to_string(),
        NarName::Base16(hash) => hash.display_digest(Format::Base16).to_string(),
        NarName::PathAndNar(path, hash) => format!("{path}-{}", hash.display_digest(Format::Nix32)),
        NarName::Path(path) => path.to_string(),
        NarName::Opaque(stem) => stem.to_owned(),
        other => panic!("{other:?}"),
    };
    let file = url.path.rsplit('/').next().expect("there is a last part");
    assert!(file.to_ascii_lowercase().starts_with(&stem.to_ascii_lowercase()), "{stem}");
    if let Some(compression) = url.compression {
        assert!(file.ends_with(&format!(".nar{}", compression.extension())), "{compression}");
    }
}
