//! Requests of hosts that join without a token.

use std::path::Path;

use super::local;
use crate::client::admission::{Admission, Admitted};

/// What signing a request means, before it is asked.
pub fn admission(looked: &Admission) -> String {
    let mut text = format!("{} asks with the key\n  {}\n", looked.node, looked.key);
    if let Some(why) = &looked.replaces {
        text.push_str(&format!("This takes another host's place: {why}.\n"));
    }
    text
}

/// What to do with the answer.
pub fn admitted(admitted: &Admitted, out: Option<&Path>) -> String {
    let file = out.map_or_else(|| "FILE".to_owned(), |out| out.display().to_string());
    format!(
        "{} is admitted, with a certificate until {}. The answer holds no secret, and only the host with this key can use it.\n\
         On the host: convoy-agent enroll --answer {file}\n\
         It prints the authority that it will trust; that has to be\n  {}\n",
        admitted.admission.node,
        local(admitted.expires),
        admitted.admission.authority
    )
}
