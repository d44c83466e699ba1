//! Settings of Nix: `nix.conf`, the user's, and the variable `NIX_CONFIG`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Files that include each other endlessly are as bad as one that cannot be read.
const DEPTH_MAX: usize = 16;

/// The value of a setting as Nix sees it: that in `NIX_CONFIG`, else in the user's files, else in the machine's.
///
/// What cannot be read counts as empty, as with Nix.
pub(crate) fn setting(name: &str) -> Option<String> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    setting_in(name, &env)
}

fn setting_in(name: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Option<String> {
    let mut value = None;
    // Later ones win.
    look_into(&directory_in(env).join("nix.conf"), name, &mut value, 0);
    for file in user_files(env).iter().rev() {
        look_into(file, name, &mut value, 0);
    }
    if let Some(text) = env("NIX_CONFIG") {
        look_at(&text.to_string_lossy(), Path::new("/"), name, &mut value, 0);
    }
    value
}

/// Where the settings of the machine are, and its `netrc`.
pub(crate) fn directory() -> PathBuf {
    directory_in(&|name| std::env::var_os(name).filter(|value| !value.is_empty()))
}

fn directory_in(env: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    env("NIX_CONF_DIR").map_or_else(|| "/etc/nix".into(), PathBuf::from)
}

/// The first wins.
fn user_files(env: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    if let Some(files) = env("NIX_USER_CONF_FILES") {
        return std::env::split_paths(&files).collect();
    }
    let home = env("XDG_CONFIG_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env("HOME")?).join(".config")));
    let machine = env("XDG_CONFIG_DIRS").unwrap_or_else(|| "/etc/xdg".into());
    let files = home.into_iter().chain(std::env::split_paths(&machine));
    files.map(|directory| directory.join("nix/nix.conf")).collect()
}

fn look_into(file: &Path, name: &str, value: &mut Option<String>, depth: usize) {
    let Ok(text) = std::fs::read_to_string(file) else { return };
    look_at(&text, file.parent().unwrap_or(file), name, value, depth);
}

fn look_at(text: &str, directory: &Path, name: &str, value: &mut Option<String>, depth: usize) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("include" | "!include"), Some(file)) if depth < DEPTH_MAX => {
                look_into(&directory.join(file), name, value, depth + 1);
            }
            (Some(first), Some("=")) if first == name => {
                *value = Some(words.collect::<Vec<_>>().join(" ")).filter(|value| !value.is_empty());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn the_setting_of_the_variable_wins_then_the_users_then_the_machines() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("nix.conf", "netrc-file = /machine # why\nother = 1\n!include more.conf\n");
        write("more.conf", "included =  a   b\n!include nix.conf\n");
        write("user.conf", "netrc-file = /user\n");
        let read = |name: &str, variables: &[(&str, OsString)]| {
            let env = |asked: &str| {
                let found = variables.iter().find(|(name, _)| *name == asked);
                found.map(|(_, value)| value.clone())
            };
            setting_in(name, &env)
        };
        let machine = ("NIX_CONF_DIR", OsString::from(folder.path()));
        let user = ("NIX_USER_CONF_FILES", OsString::from(folder.path().join("user.conf")));
        let none = ("NIX_USER_CONF_FILES", OsString::from("/nonexistent"));
        let variable = ("NIX_CONFIG", OsString::from("netrc-file = /variable"));
        assert_eq!(read("netrc-file", &[machine.clone(), none.clone()]).as_deref(), Some("/machine"));
        assert_eq!(read("included", &[machine.clone(), none]).as_deref(), Some("a b"));
        assert_eq!(read("netrc-file", &[machine.clone(), user.clone()]).as_deref(), Some("/user"));
        assert_eq!(read("netrc-file", &[machine, user, variable]).as_deref(), Some("/variable"));
    }
}
