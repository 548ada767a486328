//! What is to be sent next: the newest message of each kind, so a slow reader costs a few messages and never a queue.

use std::collections::VecDeque;

use super::ToAgent;

/// Boxed, as hardly any message waits while there is a session for every node of the fleet. Commands and questions cannot be replaced by newer ones; their senders are bounded before this.
#[derive(Default)]
pub(super) struct Outbox {
    welcome: Option<Box<ToAgent>>,
    leave: Option<Box<ToAgent>>,
    assign: Option<Box<ToAgent>>,
    heartbeat: Option<Box<ToAgent>>,
    notices: Option<Box<ToAgent>>,
    pack: Option<Box<ToAgent>>,
    commands: VecDeque<Box<ToAgent>>,
    looks: VecDeque<Box<ToAgent>>,
}

impl Outbox {
    pub(super) fn put(&mut self, message: ToAgent) {
        let message = Box::new(message);
        match *message {
            ToAgent::Welcome { .. } => self.welcome = Some(message),
            ToAgent::Leave { .. } => self.leave = Some(message),
            ToAgent::Assign { .. } => self.assign = Some(message),
            ToAgent::HeartbeatReply { .. } => self.heartbeat = Some(message),
            ToAgent::NoticesReceived(_) => self.notices = Some(message),
            ToAgent::SendPack(_) => self.pack = Some(message),
            ToAgent::Command { .. } => self.commands.push_back(message),
            ToAgent::Look { .. } | ToAgent::ReadLog { .. } => self.looks.push_back(message),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        let slots = [&self.welcome, &self.leave, &self.assign, &self.heartbeat, &self.notices, &self.pack];
        self.commands.is_empty() && self.looks.is_empty() && slots.iter().all(|slot| slot.is_none())
    }

    /// Takes the most urgent message. Leave is last, so that what was decided before it still arrives.
    pub(super) fn take(&mut self) -> Option<Box<ToAgent>> {
        let first = self.welcome.take().or_else(|| self.heartbeat.take()).or_else(|| self.assign.take());
        let then = first.or_else(|| self.commands.pop_front()).or_else(|| self.notices.take());
        let then = then.or_else(|| self.looks.pop_front());
        then.or_else(|| self.pack.take()).or_else(|| self.leave.take())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use fleet::node::Command;

    use super::*;

    #[test]
    fn of_each_kind_only_the_newest_waits() {
        let mut outbox = Outbox::default();
        for seq in 1..=3 {
            outbox.put(ToAgent::HeartbeatReply { seq, next: Duration::ZERO });
            outbox.put(ToAgent::NoticesReceived(seq));
        }
        outbox.put(ToAgent::Leave { why: String::new(), redial_after: Duration::ZERO });
        outbox.put(ToAgent::Command { id: 9, command: Command::ResumeDrift });
        let mut order = Vec::new();
        while let Some(message) = outbox.take() {
            order.push(message);
        }
        assert_eq!(*order[0], ToAgent::HeartbeatReply { seq: 3, next: Duration::ZERO });
        assert_eq!(*order[1], ToAgent::Command { id: 9, command: Command::ResumeDrift });
        assert_eq!(*order[2], ToAgent::NoticesReceived(3));
        assert!(matches!(*order[3], ToAgent::Leave { .. }) && order.len() == 4);
        assert!(outbox.is_empty());
    }
}
