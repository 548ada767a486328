//! Alerts as values: what is wrong, since when, who was told of it, and what differs now.
//!
//! [`Alerts::look`] takes what one look at the fleet found and decides what began and what ended. [`Alerts::messages`]
//! compares that with what each channel was last told and says what it is to be told now. [`Alerts::told`] notes that
//! a message has arrived. There is no queue: a receiver that was away for hours gets one message that is true now.
//!
//! Promises: what is not known neither begins nor ends an alert; only what a channel was told is reported to it as
//! over; the same state makes the same messages with the same delivery ids, so a message that is repeated after a
//! crash can be recognised. This module sends nothing and stores nothing.

mod look;
mod message;
mod policy;
mod rule;
mod silence;
mod state;
mod subject;
mod tell;

pub use look::{Blindness, Expected, Held, Looks};
pub use message::{Item, Message, Occasion, Part};
pub use policy::{AlertPolicy, HOLD_MAX, Route, Tuning};
pub use rule::{Nature, Rule, Severity, Source};
pub use silence::{Reach, Silence};
pub use state::{
    Alert, Alerts, Change, ChangeKind, Firing, Hidden, Mark, PlaceAlerts, Span, Told, ToldKey, Watch,
};
pub use subject::{AlertId, Place, Subject};
pub use tell::{ChannelRules, FIRST_AFTER, Outbox};

#[cfg(test)]
mod tests;
