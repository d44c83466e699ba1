//! Which process holds a claim, as it says itself.

use std::fmt;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

/// The longest text of an owner that is shown.
const OWNER_TEXT_MAX_CHARS: usize = 64;

/// Which process holds a claim, as it says itself: for people who wait for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The name of the machine.
    pub host: Option<String>,
    /// The name of the user.
    pub user: Option<String>,
    /// The process id on that machine.
    pub pid: Option<u32>,
    /// The program, by the file name it was started with.
    pub program: Option<String>,
    /// When the claim was made, by the clock of the machine.
    pub started: Option<SystemTime>,
}

impl Owner {
    /// This process.
    pub(crate) fn this_process() -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let user = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
        let user = user.filter(|user| !user.is_empty());
        let program = std::env::args_os().next().map(std::path::PathBuf::from);
        let program = program.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        Self {
            host: Some(host).filter(|host| !host.is_empty()),
            user,
            pid: Some(std::process::id()),
            program,
            started: Some(SystemTime::now()),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let started = self.started.map(|time| DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true));
        json!({
            "host": self.host, "user": self.user, "pid": self.pid, "program": self.program, "started": started,
        })
    }

    /// What a claim says of its owner. What cannot be read is left out: it is for people only.
    pub(crate) fn from_json(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        let started = value["started"].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        Self {
            host: text("host"),
            user: text("user"),
            pid: value["pid"].as_u64().and_then(|pid| pid.try_into().ok()),
            program: text("program"),
            started: started.map(SystemTime::from),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |text: &str| text.escape_debug().take(OWNER_TEXT_MAX_CHARS).collect::<String>();
        match &self.host {
            Some(host) => write!(f, "host {}", plain(host))?,
            None => f.write_str("an unnamed process")?,
        }
        let mut details = Vec::new();
        details.extend(self.program.as_deref().map(plain));
        details.extend(self.pid.map(|pid| format!("pid {pid}")));
        details.extend(self.user.as_deref().map(|user| format!("user {}", plain(user))));
        details.extend(self.started.map(|time| format!("started {}", started(time))));
        if details.is_empty() { Ok(()) } else { write!(f, " ({})", details.join(", ")) }
    }
}

/// A time for people: without the day, if that is today.
fn started(time: SystemTime) -> String {
    let (time, now) = (DateTime::<Utc>::from(time), DateTime::<Utc>::from(SystemTime::now()));
    let format = if time.date_naive() == now.date_naive() { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" };
    time.format(format).to_string()
}
