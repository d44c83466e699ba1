//! SIGINT and SIGTERM end the program within a second, whatever it waits for.
//!
//! A thread of its own receives them: all others may be waiting for a disk or a server that does
//! not answer. The work under way is dropped, which removes its temporary files. If that takes too
//! long, the program ends without.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// How long the end may take after a signal.
const END_MAX: Duration = Duration::from_millis(900);

/// How long dropping the work may take of that.
pub(crate) const CLEAN_UP_MAX: Duration = Duration::from_millis(700);

type Received = watch::Receiver<Option<SignalKind>>;

/// Works under way that end cleanly when a signal comes.
static LISTENERS: AtomicUsize = AtomicUsize::new(0);

/// Has signals end the program from now on, also where its parent has it ignore them, as shells do
/// with what runs in the background.
pub(crate) fn install() {
    received();
}

fn received() -> Option<Received> {
    static RECEIVED: OnceLock<Option<Received>> = OnceLock::new();
    RECEIVED.get_or_init(start).clone()
}

/// A work that ends cleanly when a signal comes.
pub(crate) struct Listener {
    received: Option<Received>,
}

impl Listener {
    /// Listens from now on. Signals have their usual effect if that is impossible.
    pub(crate) fn new() -> Self {
        LISTENERS.fetch_add(1, Ordering::SeqCst);
        Self { received: received() }
    }

    /// Waits for a signal.
    pub(crate) async fn signal(&mut self) -> SignalKind {
        if let Some(received) = &mut self.received
            && let Ok(kind) = received.wait_for(Option::is_some).await
            && let Some(kind) = *kind
        {
            return kind;
        }
        std::future::pending().await
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        LISTENERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends the program in the way that shells show for a signal.
pub(crate) fn exit(kind: SignalKind) -> ! {
    std::process::exit(128 + kind.as_raw_value())
}

/// Starts the thread, which is ready when this returns.
fn start() -> Option<Received> {
    let (sender, received) = watch::channel(None);
    let (ready, is_ready) = mpsc::channel();
    let wait = move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut interrupt), Ok(mut terminate)) = signals else { return };
            let _ = ready.send(());
            let kind = tokio::select! {
                _ = interrupt.recv() => SignalKind::interrupt(),
                _ = terminate.recv() => SignalKind::terminate(),
            };
            sender.send_replace(Some(kind));
            // The handlers stay for ever, also between two works.
            if LISTENERS.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(END_MAX).await;
            }
            exit(kind)
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).ok()?;
    is_ready.recv().ok().map(|()| received)
}
