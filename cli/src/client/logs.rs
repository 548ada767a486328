//! Logs of nodes.

use fleet::{logs::Log, time::Timestamp};
use futures::StreamExt as _;
use proto::wire::operator as wire;

use super::{Client, Updates, failure};
use crate::{exit::Failure, view};

/// Which lines are wanted.
#[derive(Clone)]
pub struct LogQuery {
    pub node: String,
    pub log: Log,
    pub follow: bool,
    pub since: Option<Timestamp>,
    pub grep: Option<String>,
    pub last: Option<u32>,
}

impl Client {
    /// Lines of a log; with `follow` also those to come.
    pub async fn logs(&mut self, query: LogQuery) -> Result<Updates<view::LogLines>, Failure> {
        let request = wire::ReadLogsRequest {
            node: query.node,
            log: query.log.to_string(),
            last: query.last.unwrap_or(0),
            since_ms: query.since.map(|since| since.0),
            grep: query.grep.unwrap_or_default(),
            follow: query.follow,
        };
        let reply = self.logs.read(request).await;
        let address = self.address.clone();
        let updates = self.answer("logs", reply)?;
        Ok(Box::pin(updates.map(move |update| match update {
            Ok(part) => Ok(view::LogLines { lines: part.lines, notes: part.notes }),
            Err(status) => Err(failure("logs", &address, status)),
        })))
    }
}
