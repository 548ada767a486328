//! `join`: a token becomes a context. The key is made here and never leaves this machine.

use fleet::token::OperatorToken;

use crate::{
    client::join::exchange,
    context::Context,
    contexts::{Contexts, write_private},
    exit::{Exit, Failure},
    request::{ContextName, Join, parse_token},
    screen::Screen,
    view,
};

/// The longest token that is read from standard input, bytes.
const TOKEN_MAX: usize = 4096;
/// Contexts of one fleet that are told apart by a number.
const NUMBERED_MAX: u32 = 100;

/// Joins, writes the context, and uses it if none was there.
///
/// # Errors
/// Nothing is written then; the token says itself whether it can be used again.
pub async fn run(request: Join, contexts: &Contexts, screen: &mut Screen) -> Result<Exit, Failure> {
    let token = match request.token {
        Some(token) => token,
        None => parse_token(&screen.input(TOKEN_MAX).map_err(|error| {
            Failure::failed("cannot read the token", "pipe it in, as in `convoy join - < FILE`")
                .because(error)
        })?)?,
    };
    if let Some(name) = &request.name {
        free(contexts, name, &token)?;
    }
    // Whatever is wrong with the directory shows before the token is used.
    let is_first = contexts.is_empty();
    let probe = contexts.file(ContextName::parse("probe").as_ref()).with_file_name(".probe");
    let unwritable = |error| {
        let dir = probe.parent().unwrap_or(&probe).display().to_string();
        Failure::failed(format!("cannot write to {dir}"), "make it writable; the token was not used")
            .because(error)
    };
    write_private(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).map_err(unwritable)?;
    let identity = exchange(&token).await?;
    let name = match request.name {
        Some(name) => name,
        None => unused(contexts, &identity.fleet, &token)?,
    };
    let path = contexts.file(Some(&name));
    let text = toml::to_string(&identity.to_context()).map_err(|error| {
        Failure::failed("cannot write the context", "this is a defect of Convoy").because(error)
    })?;
    write_private(&path, text.as_bytes()).map_err(|error| {
        let remedy = format!(
            "the token is used up; ask for another with `convoy operator add {} --again`",
            token.operator
        );
        Failure::failed(format!("cannot write {}", path.display()), remedy).because(error)
    })?;
    let current = is_first || contexts.current().as_ref() == Some(&name);
    if is_first {
        contexts.make_current(&name).map_err(|error| {
            Failure::failed(
                "cannot note which context is in use",
                format!("use --context {}", path.display()),
            )
            .because(error)
        })?;
    }
    let joined = view::Joined {
        fleet: identity.fleet,
        operator: token.operator.to_string(),
        context: name.to_string(),
        path: path.display().to_string(),
        current,
    };
    tell(&token, &joined, screen);
    Ok(Exit::Done)
}

fn tell(token: &OperatorToken, joined: &view::Joined, screen: &mut Screen) {
    screen.programs(joined);
    let mut text = format!(
        "You are {} of {} at {}.\n  context: {} ({})\n",
        joined.operator, joined.fleet, token.address, joined.context, joined.path
    );
    text.push_str(&match joined.current {
        true => "  look: convoy status\n".to_owned(),
        false => format!("  use it: convoy context use {}\n", joined.context),
    });
    screen.people(&text);
}

/// Whether a context may be written under this name: there is none, or it is the same operator's.
fn free(contexts: &Contexts, name: &ContextName, token: &OperatorToken) -> Result<(), Failure> {
    let path = contexts.file(Some(name));
    if !path.exists() {
        return Ok(());
    }
    let known = Context::read(&path).ok();
    let is_same = known.is_some_and(|known| {
        known.host_and_port() == token.address && known.operator.as_deref() == Some(token.operator.as_str())
    });
    if is_same {
        return Ok(());
    }
    Err(Failure::refused(
        format!("there is a context {name} already ({})", path.display()),
        "choose another with --name, or remove that file; the token was not used",
    ))
}

/// The fleet's name, or the same with a number if that context is another one's.
fn unused(contexts: &Contexts, fleet: &str, token: &OperatorToken) -> Result<ContextName, Failure> {
    let numbered = (2..NUMBERED_MAX).map(|number| format!("{fleet}-{number}"));
    let mut names =
        std::iter::once(fleet.to_owned()).chain(numbered).filter_map(|name| ContextName::parse(&name));
    let found = names.find(|name| free(contexts, name, token).is_ok());
    found.ok_or_else(|| {
        let remedy = format!(
            "remove some, then ask for another token with `convoy operator add {} --again`",
            token.operator
        );
        Failure::failed(format!("there are {NUMBERED_MAX} contexts of {fleet} already"), remedy)
    })
}
