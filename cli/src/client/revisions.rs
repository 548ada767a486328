//! The coordinator's revisions.

use proto::wire::operator as wire;

use super::{Client, convert::some, timed};
use crate::{
    exit::Failure,
    view::{self, When},
};

impl Client {
    /// The newest revisions, newest first.
    pub async fn revisions(&mut self, most: u32) -> Result<Vec<view::Revision>, Failure> {
        let request = wire::ListRevisionsRequest { most, revision: 0 };
        let reply = self.revisions.list(timed(request)).await;
        let reply = self.answer("revision list", reply)?;
        Ok(reply.revisions.into_iter().map(revision).collect())
    }

    /// The configuration in force, secrets hidden; with what these nodes were assigned.
    pub async fn configuration(
        &mut self,
        nodes: Vec<String>,
    ) -> Result<Vec<view::ConfigurationFile>, Failure> {
        let reply = self.revisions.configuration(timed(wire::ConfigurationRequest { nodes })).await;
        let files = self.answer("the configuration", reply)?.files.into_iter();
        let shown = |file: wire::ConfigurationFile| view::ConfigurationFile {
            path: file.path,
            node: some(file.node),
            text: if file.left_out.is_empty() { Ok(file.text) } else { Err(file.left_out) },
        };
        Ok(files.map(shown).collect())
    }

    /// One revision, with what it changed.
    pub async fn revision(&mut self, number: u64) -> Result<view::Revision, Failure> {
        let request = wire::ListRevisionsRequest { most: 1, revision: number };
        let reply = self.revisions.list(timed(request)).await;
        let found = self.answer("revision show", reply)?.revisions.into_iter().next();
        found.map(revision).ok_or_else(|| {
            Failure::failed(
                format!("there is no revision {number}"),
                "`convoy revision list` shows those that are kept",
            )
        })
    }
}

pub(super) fn origin(origin: wire::Origin) -> view::Origin {
    let wire::Origin { commit, branch, author, changed } = origin;
    view::Origin { commit, branch: some(branch), author, changed }
}

fn revision(revision: wire::Revision) -> view::Revision {
    view::Revision {
        number: revision.number,
        parent: revision.parent,
        author: revision.author,
        message: revision.message,
        created: When(revision.created_ms),
        rolls_back_to: Some(revision.rolls_back_to).filter(|to| *to != 0),
        origin: revision.origin.map(origin),
        changed: some(revision.changed),
        left_out: revision.left_out,
        approved_by: some(revision.approved_by),
        proposal: Some(revision.proposal).filter(|proposal| *proposal != 0),
        broke_glass: some(revision.broke_glass),
        signature: revision.signature.map(|signature| view::Signature {
            key: signature.key,
            statement: some(signature.statement),
            text: some(signature.text),
        }),
    }
}
