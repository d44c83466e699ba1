//! The runtime that requests run on, and the wait of a Python thread for it, which lets Ctrl-C and
//! progress callbacks through.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval};

use crate::error::{Failure, Result};

/// The interval between checks for signals.
const SIGNAL_CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// The runtime, and the ID of the process that created it.
static RUNTIME: Mutex<Option<(u32, &'static Runtime)>> = Mutex::new(None);

/// The runtime of this process. It is never shut down, because its threads are idle when the
/// process ends.
fn runtime() -> Result<&'static Runtime> {
    let mut known = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    let process = std::process::id();
    match *known {
        Some((owner, runtime)) if owner == process => Ok(runtime),
        // After a fork, the threads of the old runtime do not exist.
        _ => {
            let built = Builder::new_multi_thread().thread_name("nixcache").enable_all().build();
            let runtime: &'static Runtime = Box::leak(Box::new(built.map_err(|error| Failure::reading(&error))?));
            *known = Some((process, runtime));
            Ok(runtime)
        }
    }
}

/// An event of a push, a pull or an audit, as its `progress` callback gets it.
#[pyclass(frozen, eq, hash, module = "nixcache")]
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    /// The kind of event.
    #[pyo3(get)]
    kind: &'static str,
    /// The name of the path, without the hash part. None if the event is about all paths.
    #[pyo3(get)]
    name: Option<String>,
    /// The number of paths, objects or files, if known.
    #[pyo3(get)]
    count: Option<usize>,
    /// The number of bytes, if known.
    #[pyo3(get)]
    size: Option<u64>,
}

impl Progress {
    pub(crate) fn new(kind: &'static str, name: Option<&str>, count: Option<usize>, size: Option<u64>) -> Self {
        Self { kind, name: name.map(str::to_owned), count, size }
    }
}

#[pymethods]
impl Progress {
    #[classattr]
    #[pyo3(name = "__match_args__")]
    const MATCH_ARGS: (&'static str, &'static str, &'static str, &'static str) = ("kind", "name", "count", "size");

    fn __repr__(&self, py: Python<'_>) -> String {
        let mut text = format!("<Progress {}", self.kind);
        if let Some(name) = &self.name {
            text.extend([" ", &crate::convert::quoted(py, name)]);
        }
        if let Some(count) = self.count {
            text.extend([", ", &count.to_string()]);
        }
        if let Some(size) = self.size {
            text.extend([", ", &size.to_string(), " bytes"]);
        }
        text + ">"
    }
}

/// Sends events to the thread that calls the callback.
#[derive(Clone)]
pub(crate) struct Told(UnboundedSender<Progress>);

impl Told {
    pub(crate) fn tell(&self, progress: Option<Progress>) {
        if let Some(progress) = progress {
            // Fails if the call has ended already.
            let _ = self.0.send(progress);
        }
    }
}

/// Waits for work without the interpreter. The callback is called on this thread, with one event
/// after the other. An exception of the callback ends the work, and so does Ctrl-C.
pub(crate) fn wait<T: Send, F: Future<Output = Result<T>>>(
    py: Python<'_>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(Told) -> F + Send,
) -> Result<T> {
    let runtime = runtime()?;
    let callback = progress.map(|callback| callback.clone().unbind());
    let call = move |event: Progress| match &callback {
        Some(callback) => Python::attach(|py| callback.call1(py, (event,)).map(drop)),
        None => Ok(()),
    };
    let done = py.detach(|| {
        runtime.block_on(async {
            let (sender, mut events) = unbounded_channel();
            let mut work = std::pin::pin!(work(Told(sender)));
            let mut tick = interval(SIGNAL_CHECK_INTERVAL);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    done = &mut work => {
                        while let Ok(event) = events.try_recv() {
                            call(event)?;
                        }
                        return done;
                    }
                    Some(event) = events.recv() => call(event)?,
                    _ = tick.tick() => look_at_signals()?,
                }
            }
        })
    });
    crate::warnings::log(py);
    done
}

/// Lets the signal handlers of Python run, which may raise.
pub(crate) fn look_at_signals() -> PyResult<()> {
    #[expect(clippy::redundant_closure_for_method_calls, reason = "the method is not general enough in its lifetime")]
    Python::attach(|py| py.check_signals())
}
