//! The process that holds a claim, as the claim records it.

use std::fmt;
use std::time::SystemTime;

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::random::{is_seeded, wall_clock};

/// The longest text of an owner that is shown, in characters.
const OWNER_TEXT_MAX_CHARS: usize = 64;

/// The process that holds a claim, as the claim records it. It is shown to users who wait for the
/// claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Owner {
    /// The name of the machine.
    pub host: Option<String>,
    /// The name of the user.
    pub user: Option<String>,
    /// The process ID on that machine.
    pub pid: Option<u32>,
    /// The file name of the program, as it was started.
    pub program: Option<String>,
    /// When the claim was made, by the clock of that machine.
    pub started: Option<SystemTime>,
}

impl Owner {
    /// Describes this process.
    pub(crate) fn this_process() -> Self {
        if is_seeded() {
            return Self { host: Some("simulation".to_owned()), started: Some(wall_clock()), ..Self::default() };
        }
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
            started: Some(wall_clock()),
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        let started = self.started.map(|time| DateTime::<Utc>::from(time).to_rfc3339_opts(SecondsFormat::Secs, true));
        json!({
            "host": self.host, "user": self.user, "pid": self.pid, "program": self.program, "started": started,
        })
    }

    /// Reads the owner that a claim records. A field that cannot be read is left out, since it is
    /// only shown to users.
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

/// Formats a time for display, without the date if it is today.
fn started(time: SystemTime) -> String {
    let (time, now) = (DateTime::<Utc>::from(time), DateTime::<Utc>::from(wall_clock()));
    let format = if time.date_naive() == now.date_naive() { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" };
    time.format(format).to_string()
}
