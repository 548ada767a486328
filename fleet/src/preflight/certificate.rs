//! A certificate as far as it is judged: whose it is, for which names, until when.

use std::{net::IpAddr, time::Duration};

use crate::{ids::Digest, time::Timestamp};

/// A certificate that ends within this is told.
pub const ENDS_SOON: Duration = Duration::from_secs(30 * 86_400);
const DAY: Duration = Duration::from_secs(86_400);

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFact {
    /// Of its DER form.
    pub digest: Digest,
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// The last common name of its subject.
    pub common_name: Option<String>,
    /// DNS names and addresses among its subject alternative names.
    pub names: Vec<AltName>,
    /// It counts from here on.
    pub not_before: Timestamp,
    /// And until here.
    pub not_after: Timestamp,
}

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AltName {
    /// A host, possibly with `*` as its first label.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

impl std::fmt::Display for AltName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            AltName::Dns(name) => f.write_str(name),
            AltName::Ip(address) => write!(f, "{address}"),
        }
    }
}

/// Where the time of a look is against a certificate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// It does not count yet.
    NotYet,
    /// It counts, for longer than [`ENDS_SOON`].
    Good,
    /// It counts, and ends in so many whole days.
    EndsIn(u64),
    /// It is over.
    Ended,
}

impl CertificateFact {
    /// How its time stands.
    pub fn validity(&self, now: Timestamp) -> Validity {
        if now < self.not_before {
            Validity::NotYet
        } else if self.not_after < now {
            Validity::Ended
        } else if self.not_after.since(now) <= ENDS_SOON {
            Validity::EndsIn(self.not_after.since(now).as_secs() / DAY.as_secs())
        } else {
            Validity::Good
        }
    }

    /// What there is to say of its time, if anything.
    pub fn complaint(&self, now: Timestamp) -> Option<String> {
        match self.validity(now) {
            Validity::NotYet => Some(format!("counts only from {} on", day(self.not_before))),
            Validity::Good => None,
            Validity::EndsIn(days) => Some(format!("ends in {days} days, on {}", day(self.not_after))),
            Validity::Ended => Some(format!("ended on {}", day(self.not_after))),
        }
    }

    /// Whether a Java client takes it for the server that it dialled as `host`: by subject alternative names, and by
    /// the common name only where there is none of that kind (RFC 2818, section 3.1).
    pub fn is_for(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.');
        if let Ok(address) = host.parse::<IpAddr>() {
            let is_by_name = || self.names.is_empty() && self.common_name.as_deref() == Some(host);
            return self.names.contains(&AltName::Ip(address)) || is_by_name();
        }
        let mut dns = self.names.iter().filter_map(|name| match name {
            AltName::Dns(name) => Some(name.as_str()),
            AltName::Ip(_) => None,
        });
        if dns.clone().next().is_some() {
            return dns.any(|name| matches(name, host));
        }
        self.common_name.as_deref().is_some_and(|name| matches(name, host))
    }

    /// Whom it is for, for people.
    pub fn whose(&self) -> String {
        if self.names.is_empty() {
            return self.common_name.clone().unwrap_or_else(|| self.subject.clone());
        }
        let names: Vec<String> = self.names.iter().map(ToString::to_string).collect();
        crate::finding::names(names.iter().map(String::as_str))
    }
}

/// Letters in any case; `*` stands for the whole first label, with at least two after it.
fn matches(pattern: &str, host: &str) -> bool {
    let pattern = pattern.trim_end_matches('.');
    if let Some(domain) = pattern.strip_prefix("*.") {
        let is_narrow = domain.contains('.') && !domain.contains('*');
        return is_narrow
            && host
                .split_once('.')
                .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(domain));
    }
    pattern.eq_ignore_ascii_case(host)
}

/// A day as people write it, in UTC.
pub(super) fn day(at: Timestamp) -> String {
    jiff::Timestamp::from_millisecond(at.0)
        .map_or_else(|_| "a day far away".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::preflight) const NOW: Timestamp = Timestamp(1_795_000_000_000);

    pub(in crate::preflight) fn certificate(subject: &str, issuer: &str) -> CertificateFact {
        CertificateFact {
            digest: Digest::of(format!("{subject} by {issuer}").as_bytes()),
            subject: subject.to_owned(),
            issuer: issuer.to_owned(),
            common_name: subject.strip_prefix("CN=").map(str::to_owned),
            names: Vec::new(),
            not_before: Timestamp(NOW.0 - 1_000),
            not_after: NOW.after(Duration::from_secs(365 * 86_400)),
        }
    }

    #[test]
    fn names_are_matched_as_java_matches_them() {
        let dns = |name: &str| AltName::Dns(name.to_owned());
        let ip = |address: &str| AltName::Ip(address.parse().unwrap());
        // Alternative names, common name, the host that was dialled, whether it is taken.
        let cases = [
            (vec![], "is.example.org", "is.example.org", true),
            (vec![], "is.example.org", "IS.Example.org.", true),
            (vec![], "localhost", "is.example.org", false),
            (vec![dns("a.example.org"), dns("is.example.org")], "x", "is.example.org", true),
            // The common name says nothing once there is a DNS name.
            (vec![dns("a.example.org")], "is.example.org", "is.example.org", false),
            (vec![ip("192.0.2.1")], "is.example.org", "is.example.org", true),
            (vec![dns("*.example.org")], "x", "is.example.org", true),
            (vec![dns("*.example.org")], "x", "a.is.example.org", false),
            (vec![dns("*.example.org")], "x", "example.org", false),
            (vec![dns("*.org")], "x", "example.org", false),
            (vec![dns("i*.example.org")], "x", "is.example.org", false),
            (vec![dns("*.*.org")], "x", "is.example.org", false),
            (vec![ip("192.0.2.1")], "x", "192.0.2.1", true),
            (vec![ip("192.0.2.1")], "x", "192.0.2.2", false),
            (vec![dns("192.0.2.1")], "x", "192.0.2.1", false),
            (vec![ip("2001:db8::1")], "x", "2001:db8:0::1", true),
            (vec![], "192.0.2.1", "192.0.2.1", true),
            (vec![dns("is.example.org")], "192.0.2.1", "192.0.2.1", false),
        ];
        for (names, common_name, host, taken) in cases {
            let mut shown = certificate("CN=x", "CN=x");
            shown.names.clone_from(&names);
            shown.common_name = Some(common_name.to_owned());
            assert_eq!(shown.is_for(host), taken, "{names:?} CN={common_name} for {host}");
        }
    }

    #[test]
    fn an_end_is_told_thirty_days_before() {
        let mut shown = certificate("CN=x", "CN=x");
        let mut said = |from: i64, until: i64| {
            let days = |days: i64| Timestamp(NOW.0 + days * 86_400_000);
            (shown.not_before, shown.not_after) = (days(from), days(until));
            shown.complaint(NOW)
        };
        assert_eq!(said(-1, 31), None);
        assert_eq!(said(-1, 30).unwrap(), "ends in 30 days, on 2026-12-18");
        assert_eq!(said(-1, 0).unwrap(), "ends in 0 days, on 2026-11-18");
        assert_eq!(said(-9, -1).unwrap(), "ended on 2026-11-17");
        assert_eq!(said(1, 9).unwrap(), "counts only from 2026-11-19 on");
    }
}
