//! The keys that arguments name: secret keys to sign with, and trusted keys.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use nixcache::signature::SecretKey;
use nixcache::trust::TrustedKeys;
use nixcache_client::cache::CacheUrl;
use nixcache_client::nix_config;

use crate::cli::KeyArgs;
use crate::failure::{Failure, Result, Status};
use crate::input::{once_from_standard_input, text};
use crate::output::is_standard;
use crate::text::shown;

/// Reads the secret key in a file.
pub(crate) fn read_secret(file: &Path) -> Result<SecretKey> {
    SecretKey::parse(&text(file)?).map_err(|error| Failure::bad(file, error))
}

/// Reads the secret key in an environment variable, or in the file that it names: CI systems have
/// variables of both kinds.
fn read_variable(name: &str) -> Result<SecretKey> {
    let unusable = |reason: &str| Failure::usage(format_args!("--key-env {name}: {reason}"));
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    let value = value.ok_or_else(|| unusable("the environment variable is not set or empty"))?;
    let key = match value.to_str() {
        Some(text) => SecretKey::parse(text),
        None => return Err(unusable("the value of the environment variable is not UTF-8")),
    };
    match key {
        Ok(key) => Ok(key),
        Err(_) if Path::new(&value).is_file() => read_secret(Path::new(&value)),
        Err(error) => Err(Failure::bad(Path::new(&format!("--key-env {name}")), error)),
    }
}

/// Reads secret keys. Refuses two keys of one name, which would replace each other's signatures.
pub(crate) fn read_keys(args: &KeyArgs) -> Result<Vec<SecretKey>> {
    once_from_standard_input(&args.files)?;
    let files = args.files.iter().map(|file| (shown(file), read_secret(file)));
    let variables = args.variables.iter().map(|name| (format!("--key-env {name}"), read_variable(name)));
    let mut keys: Vec<SecretKey> = Vec::new();
    for (origin, key) in files.chain(variables) {
        let key = key?;
        match keys.iter().find(|other| other.name() == key.name()) {
            None => keys.push(key),
            Some(other) if *other == key => {}
            Some(_) => {
                let name = key.name();
                return Err(Failure::usage(format_args!("{origin}: another key has the same name, {name}")));
            }
        }
    }
    Ok(keys)
}

/// Reads the secret keys that sign what is published: those of the arguments, and those of the URL.
pub(crate) fn publishing_keys(args: &KeyArgs, url: &CacheUrl) -> Result<Vec<SecretKey>> {
    let mut all = args.clone();
    all.files.extend(url.secret_key_files());
    read_keys(&all)
}

/// The keys that arguments name.
pub(crate) fn trusted_keys(arguments: &[OsString]) -> Result<TrustedKeys> {
    once_from_standard_input(arguments)?;
    let mut keys = TrustedKeys::default();
    for argument in arguments {
        trusted(argument)?.iter().for_each(|key| keys.insert(key.clone()));
    }
    Ok(keys)
}

/// The keys that one argument names.
fn trusted(argument: &OsStr) -> Result<TrustedKeys> {
    use nix_config::Error;
    let file = Path::new(argument);
    if is_standard(file) {
        return TrustedKeys::parse(&text(file)?).map_err(|error| Failure::bad(file, error));
    }
    nix_config::trusted_keys(argument).map_err(|error| match &error {
        Error::Io { file, error } => Failure::failed(file, error),
        Error::Line { .. } | Error::Key { .. } => Failure { status: Status::Bad, message: Some(error.to_string()) },
        _ => Failure::usage(format_args!("--trusted: {error}")),
    })
}
