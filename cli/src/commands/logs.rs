//! `logs`: lines of a node's log, as they come.

use fleet::time::Timestamp;
use futures::StreamExt as _;

use crate::{
    Session,
    client::LogQuery,
    exit::{Exit, Failure},
    request::Logs,
    view,
};

pub(super) async fn logs(session: &mut Session, request: Logs) -> Result<Exit, Failure> {
    let now = Timestamp((session.now)().0);
    let query = LogQuery {
        node: request.node.to_string(),
        log: request.log,
        follow: request.follow,
        since: request.since.map(|moment| moment.at(now)),
        grep: request.grep,
        last: request.last,
    };
    let mut parts = session.client.logs(query).await?;
    let interrupt = session.interrupt.wait();
    tokio::pin!(interrupt);
    loop {
        let part = tokio::select! {
            // Cancel-safe: the stream keeps what was not taken.
            part = parts.next() => part,
            () = &mut interrupt => return Ok(Exit::Done),
        };
        let view::LogLines { lines, notes } = match part {
            Some(Ok(part)) => part,
            Some(Err(failure)) => return Err(failure),
            None => return Ok(Exit::Done),
        };
        for note in notes {
            session.screen.say(&format!("note: {note}\n"));
        }
        for line in lines {
            session.screen.people(&format!("{line}\n"));
            session.screen.programs_line(&view::LogLine { line });
        }
        if session.screen.is_closed() {
            return Ok(Exit::Done);
        }
    }
}
