//! `revision`: who changed what, and where that came from.

use super::style;
use crate::{
    Session, args,
    exit::{Exit, Failure},
    render,
};

pub(super) async fn revisions(session: &mut Session, act: args::Revision) -> Result<Exit, Failure> {
    match act {
        args::Revision::List { last } => {
            let revisions = session.client.revisions(last).await?;
            session.screen.programs(&revisions);
            session.screen.people(&render::revisions(&revisions, style(session)));
        }
        args::Revision::Show { revision } => {
            let revision = session.client.revision(revision).await?;
            session.screen.programs(&revision);
            session.screen.people(&render::revision(&revision, style(session)));
        }
    }
    Ok(Exit::Done)
}
