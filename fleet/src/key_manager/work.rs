//! One turn at the Admin API: what is to be done about one Key Manager, which request follows from what the server says,
//! and how it ended. The agent's shell only carries requests.

use std::fmt;

use serde_json::Value;

use super::{
    Registration,
    body::{self, Difference, KEPT_BY_CONVOY},
};

/// What one turn is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Another definition than the last one is in force: register it, or write it over what is there.
    Apply,
    /// See whether somebody has changed it, and undo that if so wanted.
    Check {
        /// Undo it.
        correct: bool,
    },
    /// It is in the fleet no more.
    Remove {
        /// An earlier turn was seen to succeed.
        confirmed: bool,
    },
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Of which Key Manager, and with which credentials.
    pub registration: Registration,
    /// What for.
    pub task: Task,
}

/// How a turn ended that came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was not there and is now.
    Registered,
    /// It was there and now is what was declared; what was otherwise.
    Written(Vec<Difference>),
    /// It is what was declared.
    AsDeclared,
    /// It is not what was declared, and was left so.
    Differs(Vec<Difference>),
    /// It was written, and the server keeps some fields as it likes.
    NotKept(Vec<Difference>),
    /// It is gone.
    Removed,
    /// It was gone already.
    WasGone,
    /// It was left where it is: nobody can say that Convoy made it.
    Left,
}

/// Why a turn did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// Nobody answers there, or with an error of the server: it is waited for.
    Away(String),
    /// The administrator is not let in, or may not do it.
    Denied(String),
    /// A Key Manager of that name has this other type.
    OtherType(String),
    /// The server refuses the request.
    Refused(String),
}

/// Reads as the end of a sentence about a Key Manager.
impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Away(why) => write!(f, "the Admin API does not answer: {why}"),
            Trouble::Denied(why) => write!(f, "the Admin API does not let the administrator in: {why}"),
            Trouble::OtherType(found) => {
                write!(f, "there is one of that name with the type {found}, which Convoy does not touch")
            }
            Trouble::Refused(why) => write!(f, "the Admin API refuses it: {why}"),
        }
    }
}

impl Trouble {
    /// What an operator can do about it.
    pub fn remedy(&self, registration: &Registration) -> String {
        match self {
            Trouble::Away(_) => {
                "nothing, if the server is still starting; it is tried again by itself".to_owned()
            }
            Trouble::Denied(_) => format!(
                "check admin_user ({}) and the secret of admin_password in fleet.toml; the user needs the role of an \
                 administrator",
                registration.admin.account.user
            ),
            Trouble::OtherType(_) => format!(
                "rename the declared one, or delete {} in the Admin portal if nothing uses it",
                registration.name
            ),
            Trouble::Refused(_) => {
                "correct the definition in fleet.toml; the server's log says more".to_owned()
            }
        }
    }
}

/// The Key Manager of that name on the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// There is none.
    Absent,
    /// There is one of the declared type.
    Present {
        /// By which the Admin API knows it.
        id: String,
    },
    /// There is one of this type instead.
    OtherType(String),
}

/// Finds it in the answer of `GET /key-managers`.
///
/// # Errors
/// The answer is no list of Key Managers.
pub fn find(list: &Value, registration: &Registration) -> Result<Standing, Trouble> {
    let entries = entries(list)?;
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let named = entries.iter().find(|entry| text(entry, "name").as_ref() == Some(&registration.name));
    let Some(entry) = named else { return Ok(Standing::Absent) };
    let found = text(entry, "type").unwrap_or_default();
    if found != registration.connector.as_str() {
        return Ok(Standing::OtherType(shown(&found, KIND_MAX)));
    }
    // It becomes a part of a URL.
    let is_id = |id: &String| {
        !id.is_empty()
            && id.len() <= 128
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    let id = text(entry, "id").filter(is_id).ok_or_else(no_list)?;
    Ok(Standing::Present { id })
}

/// The longest type that is told, characters.
pub(super) const KIND_MAX: usize = 60;

/// The entries of the answer of `GET /key-managers`.
pub(super) fn entries(list: &Value) -> Result<&Vec<Value>, Trouble> {
    list.get("list").and_then(Value::as_array).ok_or_else(no_list)
}

fn no_list() -> Trouble {
    Trouble::Refused("its answer is no list of Key Managers".to_owned())
}

/// A text of the server without control characters, at most so many others.
pub(super) fn shown(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

/// What follows from what the server has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing to send: this is the end.
    End(Outcome),
    /// POST this.
    Create(Value),
    /// PUT this in place of what is there.
    Replace {
        /// What was otherwise.
        was: Vec<Difference>,
        /// The whole body.
        body: Value,
    },
    /// DELETE it.
    Delete,
}

impl Work {
    /// What to send. `served` is the whole of it, if it is there.
    ///
    /// # Errors
    /// It has another type.
    pub fn step(&self, standing: &Standing, served: Option<&Value>) -> Result<Step, Trouble> {
        if let Standing::OtherType(found) = standing {
            return match self.task {
                // Somebody else's by now.
                Task::Remove { .. } => Ok(Step::End(Outcome::WasGone)),
                Task::Apply | Task::Check { .. } => Err(Trouble::OtherType(found.clone())),
            };
        }
        let wanted = body::wanted(&self.registration);
        let differences = served.map(|served| body::differences(&wanted, served));
        Ok(match (self.task, differences, served) {
            (Task::Remove { .. }, None, _) | (Task::Remove { .. }, _, None) => Step::End(Outcome::WasGone),
            (Task::Remove { confirmed }, Some(_), Some(served)) => {
                if confirmed || is_marked(served) {
                    Step::Delete
                } else {
                    Step::End(Outcome::Left)
                }
            }
            (Task::Check { correct: false }, None, _) | (Task::Check { correct: false }, _, None) => {
                Step::End(Outcome::Differs(vec![absent(&self.registration)]))
            }
            (Task::Apply | Task::Check { correct: true }, None, _)
            | (Task::Apply | Task::Check { correct: true }, _, None) => Step::Create(wanted),
            (Task::Check { .. }, Some(was), Some(_)) if was.is_empty() => Step::End(Outcome::AsDeclared),
            (Task::Check { correct: false }, Some(was), Some(_)) => Step::End(Outcome::Differs(was)),
            // Also where nothing differs: a password that changed is not to be seen.
            (Task::Apply | Task::Check { correct: true }, Some(was), Some(served)) => {
                Step::Replace { was, body: body::merged(&wanted, served) }
            }
        })
    }

    /// What the server made of what was written. `was`: what was otherwise before; `None`: it was not there.
    pub fn written(&self, was: Option<Vec<Difference>>, served: &Value) -> Outcome {
        let left = body::differences(&body::wanted(&self.registration), served);
        match was {
            _ if !left.is_empty() => Outcome::NotKept(left),
            None => Outcome::Registered,
            Some(was) => Outcome::Written(was),
        }
    }
}

/// Whether its description says who keeps it.
fn is_marked(served: &Value) -> bool {
    served.get("description").and_then(Value::as_str).is_some_and(|text| text.starts_with(KEPT_BY_CONVOY))
}

fn absent(registration: &Registration) -> Difference {
    Difference {
        field: "the Key Manager".to_owned(),
        wanted: registration.connector.as_str().to_owned(),
        found: "absent".to_owned(),
    }
}

/// What an answer with an error means, by its status and body.
pub fn trouble(status: u16, answer: &[u8]) -> Trouble {
    let said = said(answer);
    let text = if said.is_empty() { format!("status {status}") } else { format!("status {status}: {said}") };
    match status {
        401 | 403 => Trouble::Denied(text),
        // The web application of the Admin API comes up after the port does.
        404 | 408 | 429 | 500.. => Trouble::Away(text),
        _ => Trouble::Refused(text),
    }
}

/// What the server says of it: `message` and `description` of WSO2's errors, `error_description` of OAuth's. Bounded and
/// printable; it may repeat what it was sent, so whoever tells it must take secrets out.
fn said(answer: &[u8]) -> String {
    let Ok(answer) = serde_json::from_slice::<Value>(answer) else { return String::new() };
    let texts = ["code", "message", "description", "error", "error_description"];
    let texts = texts.iter().filter_map(|key| match answer.get(key) {
        Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    });
    let text = texts.collect::<Vec<_>>().join(", ");
    let text: String = text.chars().filter(|c| !c.is_control()).take(200).collect();
    crate::finding::mask_line(&text)
}
