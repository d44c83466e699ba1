//! Values of options that several commands have: keys, ages, sizes, caches.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use nixcache::store_path::StoreDir;
use nixcache_client::gc::Unrooted;

/// The heading of options about keys and signatures in help texts.
pub(super) const SIGNATURE_OPTIONS: &str = "Signature options";

/// Secret keys to sign with.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct KeyArgs {
    /// Sign with the secret key in FILE, or `-` for standard input. May be repeated.
    #[arg(id = "key", long = "key", alias = "secret-key-files", value_name = "FILE", value_parser = key_file(), help_heading = SIGNATURE_OPTIONS)]
    pub(crate) files: Vec<PathBuf>,
    /// Sign with the secret key in the environment variable NAME. May be repeated.
    #[arg(id = "key_env", long = "key-env", value_name = "NAME", help_heading = SIGNATURE_OPTIONS)]
    pub(crate) variables: Vec<String>,
}

impl KeyArgs {
    /// Whether no key is named.
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.variables.is_empty()
    }
}

/// Parses the name of a file with a secret key. Refuses a key itself, and a store path: options
/// take one value each, so a store path here is a mistake.
pub(super) fn key_file() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|argument| match misplaced(&argument) {
        _ if crate::secret::is_key_for_file(argument.as_ref()) => Err(crate::secret::KEY_NOT_FILE),
        Some(hint) if !PathBuf::from(&argument).is_file() => Err(hint),
        _ => Ok(PathBuf::from(argument)),
    })
}

/// Parses the name of a cache. Refuses a store path, unless it holds a cache.
pub(super) fn cache() -> impl TypedValueParser<Value = OsString> {
    OsStringValueParser::new().try_map(|argument| match misplaced(&argument) {
        Some(hint) if !PathBuf::from(&argument).join("nix-cache-info").exists() => Err(hint),
        _ => Ok(argument),
    })
}

/// Parses a path that may be empty.
pub(super) fn path_or_empty() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// The error for a store path that is the value of an option.
fn misplaced(argument: &OsString) -> Option<&'static str> {
    let text = argument.to_str()?;
    StoreDir::default().parse(text).is_ok().then_some(
        "this is a store path. The option takes one value; repeat it for more, and give store paths as arguments",
    )
}

/// Splits a number from the unit that follows it.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    Some((digits.parse().ok()?, &text[digits.len()..]))
}

/// Parses a duration: a number and a unit from seconds to years.
pub(super) fn age(text: &str) -> Result<Duration, &'static str> {
    const DAY: u64 = 24 * 60 * 60;
    /// Points in time this far from now can be represented. No cache is older.
    const YEARS_MAX: u64 = 1000;
    let (number, unit) = number_and_unit(text).ok_or("expected a number and a unit, as in 12h, 30d or 2w")?;
    let seconds = match unit {
        "y" | "year" | "years" => 365 * DAY,
        "mo" | "month" | "months" => 30 * DAY,
        "w" | "week" | "weeks" => 7 * DAY,
        "d" | "day" | "days" => DAY,
        "h" | "hour" | "hours" => 60 * 60,
        "m" | "min" | "minute" | "minutes" => 60,
        "s" | "sec" | "second" | "seconds" => 1,
        "" if number == 0 => 1,
        _ => return Err("expected s, m, h, d, w, mo or y after the number, as in 12h"),
    };
    Ok(Duration::from_secs(number.saturating_mul(seconds).min(YEARS_MAX * 365 * DAY)))
}

/// Parses a number of bytes, with K, M, G or T for powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    const WRONG: &str = "expected a number of bytes, optionally with K, M, G or T, as in 50G";
    let (number, unit) = number_and_unit(text).ok_or(WRONG)?;
    let power = match &*unit.to_ascii_uppercase() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 1,
        "M" | "MB" | "MIB" => 2,
        "G" | "GB" | "GIB" => 3,
        "T" | "TB" | "TIB" => 4,
        _ => return Err(WRONG),
    };
    number.checked_mul(1 << (10 * power)).ok_or("that is more than 2^64 bytes")
}

/// Parses what to do with paths that no root has listed: a word, or an age.
pub(super) fn unrooted(text: &str) -> Result<Unrooted, &'static str> {
    match text {
        "keep" => Ok(Unrooted::Keep),
        "remove" => Ok(Unrooted::Remove),
        text => age(text).map(Unrooted::OlderThan).map_err(|_| "expected keep, remove, or an age, as in 30d"),
    }
}

/// Parses a label, NAME=TEXT.
pub(super) fn label(text: &str) -> Result<(String, String), &'static str> {
    let (name, label) = text.split_once('=').ok_or("expected NAME=TEXT")?;
    if name.is_empty() { Err("expected a name before =") } else { Ok((name.to_owned(), label.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_sizes_are_numbers_with_the_usual_units() {
        let day = Duration::from_secs(86_400);
        for (text, days) in [("1d", 1), ("30days", 30), ("24h", 1), ("1440m", 1), ("2w", 14), ("1mo", 30), ("1y", 365)]
        {
            assert_eq!(age(text), Ok(day * days), "{text}");
        }
        assert_eq!((age("0"), age("90s")), (Ok(Duration::ZERO), Ok(Duration::from_secs(90))));
        for (text, bytes) in [("7", 7), ("1K", 1 << 10), ("50GB", 50 << 30), ("50GiB", 50 << 30), ("2T", 2 << 40)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "d", "12", "1.5d", "-1d", "1 d", "1q", "99999999999999999999d"] {
            assert!(age(text).is_err(), "{text}");
        }
        for text in ["", "G", "1.5G", "-1", "1X", "1iB", "18446744073709551615K"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn unrooted_paths_are_kept_removed_or_kept_for_a_time() {
        assert_eq!((unrooted("keep"), unrooted("remove")), (Ok(Unrooted::Keep), Ok(Unrooted::Remove)));
        assert_eq!(unrooted("2w"), Ok(Unrooted::OlderThan(Duration::from_secs(14 * 86_400))));
        assert!(unrooted("removed").is_err());
    }

    #[test]
    fn no_age_is_too_long_to_calculate_with() {
        let age = age("18446744073709551615y").unwrap_or_default();
        assert!(std::time::SystemTime::now().checked_sub(age).is_some());
        assert!(std::time::SystemTime::now().checked_add(age).is_some());
    }
}
