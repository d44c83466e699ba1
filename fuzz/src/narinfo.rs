//! The promises of narinfos: reading, writing, editing and building agree.

use std::collections::BTreeSet;

use nixcache::compression::Compression;
use nixcache::hash::Hash;
use nixcache::narinfo::{Builder, DeviationKind, Edit, NarInfo};
use nixcache::signature::{KeyName, SignatureRef};
use nixcache::store_path::StoreDir;

/// What writing cannot make canonical: that would be to say something else.
const LASTING: [DeviationKind; 4] = [
    DeviationKind::UnknownCompression,
    DeviationKind::DeriverNotDerivation,
    DeviationKind::HashForm,
    DeviationKind::MalformedSignature,
];

/// What is read is the text it was read from, is odd exactly if it says where, and is written such
/// that it reads as the same, with no oddities left but those that belong to its values.
pub fn narinfo(data: &[u8]) {
    let store_dir = StoreDir::default();
    let info = match NarInfo::parse(data, &store_dir) {
        Ok(info) => info,
        Err(error) => {
            assert!(error.to_string().len() < 600, "{error}");
            assert!(error.line.is_none_or(|line| 0 < line && line <= 1 + newlines(data)), "{error}");
            return;
        }
    };
    assert_eq!(info.as_str().as_bytes(), data);
    let kinds = deviations(&info);
    let mut written = Vec::new();
    info.write(&mut written);
    let again = NarInfo::parse(&written, &store_dir).expect("what is written can be read");
    same(&info, &again);
    assert!(deviations(&again).iter().all(|kind| LASTING.contains(kind) && kinds.contains(kind)));
    let mut twice = Vec::new();
    again.write(&mut twice);
    assert_eq!(twice, written);
    assert_eq!(info.is_canonical(), written == data && deviations(&again).is_empty());
    if let Some(built) = build(&store_dir, &info) {
        // Signatures in the order of Nix 2.8 are left in it, and built in that of later versions.
        let lines = |text: &[u8]| text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect::<BTreeSet<_>>();
        assert_eq!(lines(built.as_bytes()), lines(&written));
    }
}

fn newlines(data: &[u8]) -> usize {
    data.iter().filter(|&&byte| byte == b'\n').count()
}

/// The kinds of all deviations, which are where they say.
fn deviations(info: &NarInfo<'_>) -> BTreeSet<DeviationKind> {
    let deviations = info.deviations();
    let lines: Vec<&str> = info.as_str().lines().collect();
    for deviation in &deviations {
        let line = lines.get(deviation.line - 1).expect("a line of the text");
        let is_missing = matches!(deviation.kind, DeviationKind::MissingCompression | DeviationKind::MissingReferences);
        assert!(is_missing || line.starts_with(deviation.field), "{deviation:?}");
    }
    assert!(deviations.is_sorted_by_key(|deviation| deviation.line));
    let kinds: BTreeSet<DeviationKind> = deviations.iter().map(|deviation| deviation.kind).collect();
    assert!(DeviationKind::ALL.iter().all(|&kind| info.deviates(kind) == kinds.contains(&kind)));
    assert_eq!(info.is_canonical(), kinds.is_empty());
    kinds
}

fn same(a: &NarInfo<'_>, b: &NarInfo<'_>) {
    assert_eq!(a.store_path(), b.store_path());
    assert_eq!(a.store_dir(), b.store_dir());
    assert_eq!(a.url(), b.url());
    assert_eq!(a.compression_name(), b.compression_name());
    assert_eq!(a.file_hash(), b.file_hash());
    assert_eq!(a.file_size(), b.file_size());
    assert_eq!(a.nar_hash(), b.nar_hash());
    assert_eq!(a.nar_size(), b.nar_size());
    assert_eq!(a.deriver(), b.deriver());
    assert_eq!(a.content_address(), b.content_address());
    let set = |info: &NarInfo<'_>| info.references().iter().map(|path| path.to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(set(a), set(b));
    let set = |info: &NarInfo<'_>| info.signatures().map(str::to_owned).collect::<BTreeSet<_>>();
    assert_eq!(set(a), set(b));
    assert_eq!(a.fingerprint().to_vec(), b.fingerprint().to_vec());
}

/// Builds the narinfo anew from its parts; `None` if a part cannot be given.
fn build(store_dir: &StoreDir, info: &NarInfo<'_>) -> Option<String> {
    let mut builder = Builder::new(store_dir, info.store_path(), info.url(), info.nar_hash(), info.nar_size())
        .compression(info.compression().ok()?)
        .references(info.references());
    if let Some(hash) = info.file_hash() {
        builder = builder.file_hash(hash);
    }
    if let Some(size) = info.file_size() {
        builder = builder.file_size(size);
    }
    if let Some(deriver) = info.deriver() {
        builder = builder.deriver(deriver);
    }
    if let Some(address) = info.content_address() {
        builder = builder.content_address(address);
    }
    for signature in info.signatures() {
        builder = builder.signature(SignatureRef::parse(signature).ok()?);
    }
    Some(builder.build().expect("what was read can be built").as_str().to_owned())
}

/// A change that a line of the input asks for.
enum Change<'a> {
    Url(&'a str),
    Compression(Compression),
    FileHash(Option<Hash>),
    FileSize(Option<u64>),
    Sign(SignatureRef<'a>),
    Unsign(&'a str),
}

impl<'a> Change<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (word, value) = line.split_once(' ').unwrap_or((line, ""));
        Some(match word {
            "url" => Self::Url(value),
            "compression" => Self::Compression(value.parse().ok()?),
            "file-hash" => Self::FileHash(Hash::parse(value).ok()),
            "file-size" => Self::FileSize(value.parse().ok()),
            "sign" => Self::Sign(SignatureRef::parse(value).ok()?),
            "unsign" => Self::Unsign(value),
            _ => return None,
        })
    }

    fn apply<'i>(&self, edit: Edit<'i>) -> Edit<'i> {
        match *self {
            Self::Url(url) => edit.url(url),
            Self::Compression(compression) => edit.compression(compression),
            Self::FileHash(hash) => edit.file_hash(hash),
            Self::FileSize(size) => edit.file_size(size),
            Self::Sign(signature) => edit.sign(signature),
            Self::Unsign(name) => edit.unsign(name),
        }
    }

    /// Whether it is about this line.
    fn concerns(&self, line: &str) -> bool {
        let (field, value) = line.split_once(':').expect("every line has a colon");
        let signed_by = |name| field == "Sig" && value[1..].split_once(':').is_some_and(|(by, _)| by == name);
        match self {
            Self::Url(_) => field == "URL",
            Self::Compression(_) => field == "Compression",
            Self::FileHash(_) => field == "FileHash",
            Self::FileSize(_) => field == "FileSize",
            Self::Sign(signature) => signed_by(signature.name()),
            Self::Unsign(name) => signed_by(name),
        }
    }

    /// Whether it has been done, if nothing else was done afterwards.
    fn is_done(&self, info: &NarInfo<'_>) -> bool {
        let by = |name: &str| {
            let of_name = |text: &&str| text.split_once(':').is_some_and(|(by, _)| by == name);
            info.signatures().filter(of_name).map(str::to_owned).collect::<Vec<_>>()
        };
        match *self {
            Self::Url(url) => info.url() == url,
            Self::Compression(compression) => info.compression().ok() == Some(compression),
            Self::FileHash(hash) => info.file_hash() == hash,
            Self::FileSize(size) => info.file_size() == size.filter(|size| *size != 0),
            Self::Sign(signature) => by(signature.name()) == [signature.to_string()],
            Self::Unsign(name) => by(name).is_empty(),
        }
    }
}

/// A changed narinfo says what the changes say, and has every line that they do not concern as it
/// was. Lines before the first blank one ask for changes: `url TEXT`, `compression NAME`,
/// `file-hash HASH`, `file-size NUMBER`, `sign SIGNATURE`, `unsign NAME`.
pub fn edit(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Some((changes, text)) = text.split_once("\n\n") else { return };
    let changes: Vec<Change<'_>> = changes.split('\n').filter_map(Change::parse).collect();
    let store_dir = StoreDir::default();
    let Ok(info) = NarInfo::parse(text.as_bytes(), &store_dir) else { return };

    let edited = changes.iter().fold(info.edit(), |edit, change| change.apply(edit)).finish();
    let is_refused = |url: &str| url.chars().any(char::is_control);
    let urls = || changes.iter().filter_map(|change| if let Change::Url(url) = change { Some(*url) } else { None });
    let refused = urls().any(is_refused) || urls().next_back() == Some("");
    assert_eq!(edited.is_err(), refused, "{edited:?}");
    let Ok(edited) = edited else { return };
    assert_eq!(NarInfo::parse(edited.as_str().as_bytes(), &store_dir), Ok(edited.as_ref()));

    let others = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !changes.iter().any(|change| change.concerns(line))).map(str::to_owned).collect()
    };
    assert_eq!(others(edited.as_str()), others(text));
    assert_eq!(edited.as_str().ends_with('\n'), text.ends_with('\n'));
    for (index, change) in changes.iter().enumerate() {
        let probe = match change {
            Change::Sign(signature) => format!("Sig: {signature}"),
            Change::Unsign(name) if KeyName::check(name).is_ok() => format!("Sig: {name}:"),
            Change::Unsign(_) => continue,
            Change::Url(_) => "URL: ".to_owned(),
            Change::Compression(_) => "Compression: ".to_owned(),
            Change::FileHash(_) => "FileHash: ".to_owned(),
            Change::FileSize(_) => "FileSize: ".to_owned(),
        };
        let is_last = !changes[index + 1..].iter().any(|later| later.concerns(&probe));
        assert!(!is_last || change.is_done(&edited.as_ref()), "change {index}: {edited}");
    }
}
