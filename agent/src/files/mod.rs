//! The managed files of a home: staged beside their targets, switched all or none, compared, restored.
//!
//! Jobs run one after the other on one thread, so a restore never overtakes a switch. Every path is walked from the
//! home's open directory without following a symlink ([`place`]).

mod check;
mod generated;
mod launch;
mod original;
mod pack;
mod place;
mod scan;
mod stage;
mod switch;
mod worker;

pub use self::{
    check::{Defaults, check},
    generated::config_unread,
    launch::{clear_launch_files, write_launch_files},
    pack::{PackAt, read as read_pack},
    place::{Content, Facts, Home, LastPart, Owner, Place, PlaceError, facts_of, open_named, read_named},
    scan::Scanner,
    stage::{Over, carried, declared, means_the_same, read_bounded},
    worker::{Files, Job, Kept, Staging},
};
