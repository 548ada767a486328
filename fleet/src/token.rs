//! Join tokens: one word that lets one host become one node, or one person one operator, once.
//!
//! The coordinator writes them, an operator carries them, the agent or the command reads them. A token names who joins, says where to
//! dial and pins the authority, so that the agent's first connection is already to the right coordinator. Everything
//! in it but the secret is public; the coordinator keeps only a hash of the secret.

use std::fmt;

use crate::ids::{NameError, NodeName, OperatorName};

/// What every token of a node starts with in this format.
const NODE_PREFIX: &str = "convoy-join.v1";
/// What every token of an operator starts with in this format.
const OPERATOR_PREFIX: &str = "convoy-operator.v1";

/// Bytes of the secret; 256 bits cannot be guessed.
pub const SECRET_LEN: usize = 32;

/// The secret part of a join token. Its `Debug` prints no secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenSecret(pub [u8; SECRET_LEN]);

impl TokenSecret {
    /// As it is sent in `EnrollRequest.token_secret`: hexadecimal.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// Reads what [`TokenSecret::to_hex`] wrote.
    pub fn from_hex(text: &str) -> Option<Self> {
        unhex(text)?.try_into().ok().map(Self)
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// A join token, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The only name it can be used for.
    pub node: NodeName,
    /// Where the coordinator listens, `host:port`.
    pub address: String,
    /// SHA-256 of the DER encoding of the authority's certificate. The coordinator presents that certificate at the
    /// end of its chain; an agent goes on only if the digests agree.
    pub authority: [u8; 32],
    /// Proves that the coordinator made this token.
    pub secret: TokenSecret,
}

impl JoinToken {
    /// The token as one word of letters, digits, dots and dashes. It holds the secret: show it once, log it never.
    pub fn to_text(&self) -> String {
        to_text(NODE_PREFIX, self.node.as_str(), &self.parts())
    }

    /// Reads a token; surrounding white space is ignored.
    ///
    /// # Errors
    /// Says which part is wrong, without repeating the token.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let (node, Parts { address, authority, secret }) = parse(NODE_PREFIX, text).map_err(|error| {
            let is_operators = text.trim().starts_with(OPERATOR_PREFIX);
            if is_operators { TokenError::OfOperator } else { error }
        })?;
        Ok(Self { node: NodeName::parse(node).map_err(TokenError::Name)?, address, authority, secret })
    }

    fn parts(&self) -> Parts {
        Parts { address: self.address.clone(), authority: self.authority, secret: self.secret }
    }
}

/// A join token of an operator, read. As [`JoinToken`], but for who uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorToken {
    /// The only name it can be used for.
    pub operator: OperatorName,
    /// Where the coordinator listens, `host:port`.
    pub address: String,
    /// SHA-256 of the DER encoding of the authority's certificate.
    pub authority: [u8; 32],
    /// Proves that the coordinator made this token.
    pub secret: TokenSecret,
}

impl OperatorToken {
    /// The token as one word. It holds the secret: show it once, log it never.
    pub fn to_text(&self) -> String {
        let Self { operator, address, authority, secret } = self.clone();
        to_text(OPERATOR_PREFIX, operator.as_str(), &Parts { address, authority, secret })
    }

    /// Reads a token; surrounding white space is ignored.
    ///
    /// # Errors
    /// Says which part is wrong, without repeating the token.
    pub fn parse(text: &str) -> Result<Self, TokenError> {
        let (operator, Parts { address, authority, secret }) =
            parse(OPERATOR_PREFIX, text).map_err(|error| match error {
                TokenError::Prefix if text.trim().starts_with(NODE_PREFIX) => TokenError::OfNode,
                TokenError::Prefix => TokenError::NoOperatorToken,
                other => other,
            })?;
        Ok(Self {
            operator: OperatorName::parse(operator).map_err(TokenError::Name)?,
            address,
            authority,
            secret,
        })
    }
}

/// What every token holds beside a name.
struct Parts {
    address: String,
    authority: [u8; 32],
    secret: TokenSecret,
}

fn to_text(prefix: &str, name: &str, parts: &Parts) -> String {
    let address = hex(parts.address.as_bytes());
    format!("{prefix}.{name}.{address}.{}.{}", hex(&parts.authority), parts.secret.to_hex())
}

fn parse<'a>(prefix: &str, text: &'a str) -> Result<(&'a str, Parts), TokenError> {
    let rest = text.trim().strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
    let parts: Vec<&str> = rest.ok_or(TokenError::Prefix)?.split('.').collect();
    let [name, address, authority, secret] = parts[..] else { return Err(TokenError::Parts) };
    let address = unhex(address).and_then(|bytes| String::from_utf8(bytes).ok());
    let parts = Parts {
        address: address.filter(|text| is_address(text)).ok_or(TokenError::Part("address"))?,
        authority: unhex(authority)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(TokenError::Part("authority"))?,
        secret: TokenSecret::from_hex(secret).ok_or(TokenError::Part("secret"))?,
    };
    Ok((name, parts))
}

/// Why a text is not a join token. Never holds the text, which may be most of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Something else entirely.
    #[error(
        "this is not a join token; it starts with \"{NODE_PREFIX}.\", as `convoy token create` printed it"
    )]
    Prefix,
    /// Too few or too many parts.
    #[error("the join token is cut off or has something appended; copy the whole word")]
    Parts,
    /// A part that does not read.
    #[error("the {0} in the join token is damaged; copy the whole word")]
    Part(&'static str),
    /// The name is not one.
    #[error("the name in the join token is damaged")]
    Name(#[source] NameError),
    /// Something else than an operator's token.
    #[error(
        "this is not an operator's join token; it starts with \"{OPERATOR_PREFIX}.\", as `convoy operator add` printed it"
    )]
    NoOperatorToken,
    /// An operator's, where a node's is wanted.
    #[error(
        "this join token is an operator's; `convoy join` takes it, and `convoy token create` makes one for a node"
    )]
    OfOperator,
    /// A node's, where an operator's is wanted.
    #[error(
        "this join token is a node's; `convoy-agent enroll` takes it, and `convoy operator add` makes one for an operator"
    )]
    OfNode,
}

pub(crate) fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok() && !text.contains(char::is_whitespace)
    })
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes any text");
        text
    })
}

pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> JoinToken {
        JoinToken {
            node: NodeName::parse("is-1").unwrap(),
            address: "127.0.0.1:7843".to_owned(),
            authority: [0xab; 32],
            secret: TokenSecret([7; SECRET_LEN]),
        }
    }

    #[test]
    fn a_token_reads_back_what_it_prints() {
        let text = token().to_text();
        assert_eq!(JoinToken::parse(&format!(" {text}\n")), Ok(token()));
        assert!(!text.contains(char::is_whitespace));
    }

    #[test]
    fn a_damaged_token_says_what_is_wrong_and_does_not_repeat_it() {
        let text = token().to_text();
        let cases = [
            ("hello".to_owned(), "not a join token"),
            (text.replace("v1", "v2"), "not a join token"),
            (format!("{text}.x"), "appended"),
            (text[..text.len() - 1].to_owned(), "secret"),
            (text.replace("is-1", "IS-1"), "name"),
            (text.replace(&"ab".repeat(32), "abab"), "authority"),
            (text.replace(&hex(b"127.0.0.1:7843"), &hex(b"nowhere")), "address"),
        ];
        for (bad, expected) in cases {
            let error = JoinToken::parse(&bad).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains(&token().secret.to_hex()[..20]), "{error}");
        }
    }

    #[test]
    fn a_token_of_an_operator_is_none_of_a_node_and_says_so() {
        let JoinToken { address, authority, secret, .. } = token();
        let operator = OperatorName::parse("is-1").unwrap();
        let own = OperatorToken { operator, address, authority, secret };
        assert_eq!(OperatorToken::parse(&format!("{}\n", own.to_text())), Ok(own.clone()));
        assert_eq!(JoinToken::parse(&own.to_text()), Err(TokenError::OfOperator));
        assert_eq!(OperatorToken::parse(&token().to_text()), Err(TokenError::OfNode));
        assert_eq!(OperatorToken::parse("hello"), Err(TokenError::NoOperatorToken));
        assert_eq!(OperatorToken::parse(&own.to_text()[..60]), Err(TokenError::Parts));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        assert!(!format!("{:?}", token()).contains('7'.to_string().repeat(3).as_str()));
        assert!(format!("{:?}", token()).contains("secret: …"));
    }
}
