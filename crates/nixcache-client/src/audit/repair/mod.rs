//! Repairing a cache: what can safely be done about the findings of an audit, and doing it.

mod error;
mod plan;
mod run;

pub use error::RepairError;
pub use plan::{Fix, RepairEvent, RepairPlan, Withdrawal};
