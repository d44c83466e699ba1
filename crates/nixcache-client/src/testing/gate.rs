//! A gate before the store: requests of those tasks that are [actors](ACTOR) wait there until they
//! are let through, one by one.

use std::cell::RefCell;

use tokio::sync::oneshot;

tokio::task_local! {
    /// Which actor a task is.
    pub(crate) static ACTOR: usize;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Get,
    Head,
    List,
    Put,
    Delete,
}

/// A request to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) kind: Kind,
    /// The object, or the folder that is listed.
    pub(crate) name: String,
}

#[cfg_attr(not(test), allow(dead_code))]
struct Waiting {
    actor: usize,
    request: Request,
    permit: oneshot::Sender<()>,
}

thread_local! {
    static GATE: RefCell<Option<Vec<Waiting>>> = const { RefCell::new(None) };
}

/// Closes the gate for the actors of this thread, or takes it away.
#[cfg(test)]
pub(crate) fn close(is_closed: bool) {
    GATE.set(is_closed.then(Vec::new));
}

pub(crate) fn is_closed() -> bool {
    GATE.with_borrow(Option::is_some)
}

/// The requests with which an actor waits.
#[cfg(test)]
pub(crate) fn waiting(actor: usize) -> Vec<Request> {
    GATE.with_borrow_mut(|gate| {
        let gate = gate.as_mut().expect("a closed gate");
        // A task that was dropped waits no more.
        gate.retain(|waiting| !waiting.permit.is_closed());
        gate.iter().filter(|waiting| waiting.actor == actor).map(|waiting| waiting.request.clone()).collect()
    })
}

/// Lets a request through.
#[cfg(test)]
pub(crate) fn permit(actor: usize, request: &Request) {
    let waiting = GATE.with_borrow_mut(|gate| {
        let gate = gate.as_mut().expect("a closed gate");
        let place = gate
            .iter()
            .position(|waiting| waiting.actor == actor && waiting.request == *request)
            .expect("a waiting request");
        gate.remove(place)
    });
    waiting.permit.send(()).expect("a waiting request");
}

/// Waits at the gate, if this is an actor and there is one.
pub(crate) async fn enter(kind: Kind, name: &str) {
    let Ok(actor) = ACTOR.try_get() else { return };
    let permitted = GATE.with_borrow_mut(|gate| {
        let (permit, permitted) = oneshot::channel();
        gate.as_mut()?.push(Waiting { actor, request: Request { kind, name: name.to_owned() }, permit });
        Some(permitted)
    });
    if let Some(permitted) = permitted {
        let _ = permitted.await; // or the gate was taken away
    }
}
