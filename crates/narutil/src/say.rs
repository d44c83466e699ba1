//! Messages on standard error. Printing one never fails, leaves progress bars intact, cannot steer
//! a terminal, and shows no secret.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::progress;
use crate::secret;

/// Prints a line on standard error. Replaces the macro of the standard library, which panics if
/// standard error is closed.
macro_rules! eprintln {
    ($($argument:tt)+) => { crate::say::line(&format!($($argument)+)) };
}

/// Prints a line on standard error.
pub(crate) fn line(text: &str) {
    write(None, text);
}

fn write(label: Option<(&str, &str)>, text: &str) {
    let text = without_control(&secret::redacted(text));
    let line = match label {
        Some((color, label)) if is_colored() => format!("narutil: \x1b[{color}m{label}\x1b[0m: {text}\n"),
        Some((_, label)) => format!("narutil: {label}: {text}\n"),
        None => format!("{text}\n"),
    };
    progress::suspended(|| {
        // There is nowhere left to report a failure to.
        let _ = io::stderr().lock().write_all(line.as_bytes());
    });
}

/// Whether to print colors. As no-color.org says, `NO_COLOR` counts if it is set and not empty.
fn is_colored() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|value| value != "dumb")
        && io::stderr().is_terminal()
}

/// The text, with control characters escaped, except for line ends.
fn without_control(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\n' {
            visible.extend(character.escape_default());
        } else {
            visible.push(character);
        }
    }
    visible
}

/// Prints panics like other messages: without secrets, and without a second panic if standard error
/// is closed.
pub(crate) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| {
        line(&format!("narutil: internal error, please report it: {panic}"));
    }));
}

/// Prints warnings on standard error, and with `-v` explanations too.
///
/// Without `-v`, warnings come from the project's own crates only. With `--quiet` there are none.
pub(crate) fn install(verbose: u8, quiet: bool) {
    let level = match (verbose, quiet) {
        (0, true) => Level::ERROR,
        (0, false) => Level::WARN,
        (1, _) => Level::INFO,
        _ => Level::DEBUG,
    };
    let format = Lines { own_only: verbose == 0 };
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(Lines::default).event_format(format);
    // Tests of this crate may have installed one.
    let _ = tracing::subscriber::set_global_default(subscriber.finish());
}

/// Formats each event as a line in the form of the program's messages.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    own_only: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        let is_own = metadata.target().starts_with("nixcache") || metadata.target().starts_with("narutil");
        if self.own_only && !is_own {
            return Ok(());
        }
        let mut text = String::new();
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        let label = match *metadata.level() {
            Level::ERROR => ("31", "error"),
            Level::WARN => ("33", "warning"),
            Level::INFO => ("32", "info"),
            Level::DEBUG => ("34", "debug"),
            Level::TRACE => ("35", "trace"),
        };
        write(Some(label), &text);
        // The line is written already, with its color and escaped.
        let _ = &mut out;
        Ok(())
    }
}

/// Discards everything, because `format_event` has written the line.
impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
