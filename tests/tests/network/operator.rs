//! The person at the keyboard: applies, looks, waits. Never gives up on a coordinator that is away.

use std::{sync::Arc, time::Duration};

use proto::wire::operator::{
    FileChunk, Rollout, StatusReply, StatusRequest, Upload, UploadHeader, operator_client::OperatorClient,
    upload::Part,
};
use tonic::transport::Channel;

use crate::{
    site::{PORT, Site},
    sockets::dial,
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);

/// Of a node whose step was sent and is not over.
pub const IN_FLIGHT: [&str; 4] = ["sent", "written", "restarting", "soaking"];

pub struct Operator {
    pub site: Arc<Site>,
    client: Option<OperatorClient<Channel>>,
}

impl Operator {
    pub fn new(site: Arc<Site>) -> Self {
        Self { site, client: None }
    }

    async fn client(&mut self) -> OperatorClient<Channel> {
        loop {
            if let Some(client) = &self.client {
                return client.clone();
            }
            if let Some(tls) = self.site.operator()
                && let Ok(channel) = dial("coordinator", PORT, tls).await
            {
                self.client = Some(OperatorClient::new(channel));
            } else {
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    pub async fn status(&mut self) -> StatusReply {
        loop {
            match self.client().await.status(StatusRequest {}).await {
                Ok(reply) => return reply.into_inner(),
                Err(_) => self.client = None,
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Until everything is as `is` says.
    pub async fn until(&mut self, is: impl Fn(&StatusReply) -> bool) -> StatusReply {
        loop {
            let status = self.status().await;
            if is(&status) {
                return status;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Begins a rollout of a configuration that holds `word`.
    pub async fn apply(&mut self, word: &str) {
        let files = self
            .site
            .fleet(word)
            .into_iter()
            .map(|(path, text)| Part::File(FileChunk { path, data: text.into_bytes(), last: true }));
        let header = Part::Header(UploadHeader { message: word.to_owned(), ..UploadHeader::default() });
        let parts: Vec<Upload> =
            std::iter::once(header).chain(files).map(|part| Upload { part: Some(part) }).collect();
        let reply = self.client().await.apply(tokio_stream::iter(parts)).await.unwrap().into_inner();
        assert!(!reply.refused, "{reply:#?}");
    }

    /// Until the newest rollout is over, and that as planned.
    pub async fn done(&mut self, id: u64) {
        let status =
            self.until(|status| newest(status).is_some_and(|it| it.id == id && it.ended_ms != 0)).await;
        let rollout = newest(&status).unwrap();
        assert_eq!(rollout.state, "done", "{:?}", rollout.waiting);
    }

    /// All four connected, and the first revision in force.
    pub async fn settled(site: Arc<Site>) -> Self {
        let mut operator = Self::new(site);
        operator.apply("one").await;
        operator.done(1).await;
        assert_eq!(operator.site.launches(), [1, 1, 1, 1]);
        operator
    }
}

/// The rollout that began last.
pub fn newest(status: &StatusReply) -> Option<&Rollout> {
    status.rollouts.iter().max_by_key(|rollout| rollout.id)
}

/// Nodes of the newest rollout in one of these states.
pub fn nodes_in(status: &StatusReply, states: &[&str]) -> Vec<String> {
    let groups = newest(status).into_iter().flat_map(|rollout| &rollout.groups);
    let nodes = groups.flat_map(|group| &group.nodes).filter(|node| states.contains(&node.state.as_str()));
    nodes.map(|node| node.node.clone()).collect()
}
