//! `operator`: who may do what.

use crate::{
    Session,
    commands::confirm,
    exit::{Exit, Failure},
    render,
    request::OperatorAct,
    screen::Format,
    wait,
};

/// Runs one command.
///
/// # Errors
/// With what to do next.
pub async fn execute(act: OperatorAct, session: &mut Session) -> Result<Exit, Failure> {
    let answer = match act {
        OperatorAct::List => {
            let operators = session.client.operators().await?;
            session.screen.programs(&operators);
            let text = render::operators(&operators, wait::style(&session.screen));
            session.screen.people(&text);
            return Ok(Exit::Done);
        }
        OperatorAct::Add { name, grant, valid } => {
            let token = session.client.add_operator(&name, grant.as_ref(), valid).await?;
            session.screen.programs(&token);
            for warning in &token.warnings {
                session.screen.say(&format!("warning: {warning}\n"));
            }
            let (hint, token) = render::operator_token(&token);
            if session.screen.format == Format::People {
                session.screen.say(&hint);
            }
            session.screen.people(&token);
            return Ok(Exit::Done);
        }
        OperatorAct::Set { name, grant } => session.client.set_operator(&name, &grant).await?,
        OperatorAct::Remove { name, confirm: given } => {
            confirm(session, given, &format!("Remove the operator {name}, who is refused from then on?"))?;
            session.client.remove_operator(&name).await?
        }
    };
    session.screen.programs(&answer);
    session.screen.people(&render::answer(&answer));
    Ok(Exit::Done)
}
