//! SIGINT and SIGTERM end the program within a second, even while it waits for I/O.
//!
//! A separate thread receives them, because all others may be waiting for a disk or a server that
//! does not respond. The running work is dropped, which removes its temporary files. If that takes
//! too long, the program ends without it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The longest time from a signal to the end of the program.
const END_MAX: Duration = Duration::from_millis(900);

/// How much of that time dropping the work may take.
pub(crate) const CLEAN_UP_MAX: Duration = Duration::from_millis(700);

type Received = watch::Receiver<Option<SignalKind>>;

/// The number of [`Listener`]s.
static LISTENERS: AtomicUsize = AtomicUsize::new(0);

/// Makes signals end the program, even if its parent process has set them to be ignored, as shells
/// do for background processes.
pub(crate) fn install() {
    received();
}

fn received() -> Option<Received> {
    static RECEIVED: OnceLock<Option<Received>> = OnceLock::new();
    RECEIVED.get_or_init(start).clone()
}

/// A piece of work that ends cleanly when a signal arrives.
pub(crate) struct Listener {
    received: Option<Received>,
}

impl Listener {
    /// Starts listening. If that fails, signals have their default effect.
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

/// Ends the program with the exit status that shells use for a signal.
pub(crate) fn exit(kind: SignalKind) -> ! {
    std::process::exit(128 + kind.as_raw_value())
}

/// Starts the thread, and waits until it is ready.
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
            // The handlers stay installed, also while there is no listener.
            if LISTENERS.load(Ordering::SeqCst) > 0 {
                tokio::time::sleep(END_MAX).await;
            }
            exit(kind)
        });
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).ok()?;
    is_ready.recv().ok().map(|()| received)
}
