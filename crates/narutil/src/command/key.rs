//! `narutil key`: generates keys, and derives public keys.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nixcache::signature::{KeyName, SecretKey, looks_like_key};

use crate::cli::{Common, GenerateKeyArgs, PublicKeyArgs};
use crate::failure::{Failure, Result, Status};
use crate::json::{GeneratedKey, PublicKey, line};
use crate::keys::read_secret;
use crate::output::{directory, is_standard, print};

pub(crate) fn generate(common: &Common, args: &GenerateKeyArgs) -> Result {
    if looks_like_key(&args.name) {
        return Err(Failure::usage("this is a key, not the name of a key (it is not shown)"));
    }
    let name = KeyName::new(args.name.as_str()).map_err(|error| Failure::usage(error.to_string()))?;
    if args.public.as_deref().is_some_and(is_standard) && is_standard(&args.output) && !common.json {
        return Err(Failure::usage("the two keys cannot both go to standard output; use --json to print both"));
    }
    let key = SecretKey::generate(name).map_err(|error| Failure::failed(Path::new("key"), error))?;
    let public = key.public_key().to_string();
    let secret = key.to_text();
    let secret_is_shown = is_standard(&args.output);
    if !secret_is_shown {
        create(&args.output, &secret, 0o600)?;
    }
    if let Some(path) = args.public.as_deref().filter(|path| !is_standard(path)) {
        create(path, &public, 0o644).inspect_err(|_| {
            if !secret_is_shown {
                // Removes the new file again. An error here is less important than the first.
                let _ = fs::remove_file(&args.output);
            }
        })?;
    }
    if common.json {
        let secret_key = secret_is_shown.then(|| secret.as_str());
        print(line(&GeneratedKey { secret_key, public_key: &public }))?;
    } else if secret_is_shown {
        print(secret.as_bytes())?;
    } else if args.public.as_deref().is_some_and(is_standard) {
        print(public)?;
    }
    Ok(Status::Ok)
}

pub(crate) fn public(common: &Common, args: &PublicKeyArgs) -> Result {
    let public = read_secret(&args.file)?.public_key().to_string();
    let line = if common.json { line(&PublicKey { public_key: &public }) } else { public };
    print(line)?;
    Ok(Status::Ok)
}

/// Writes a line to a new file atomically. Fails if the file exists.
fn create(path: &Path, line: &str, mode: u32) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".narutil-")
            .suffix(".tmp")
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(directory(path))?;
        file.write_all(line.as_bytes())?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map(drop).map_err(|error| error.error)
    };
    write().map_err(|error| Failure::failed(path, error))
}
