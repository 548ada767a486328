//! Whether a server does its job, from rounds of probes, with thresholds and grace like Kubernetes probes.
//! Unknown is never healthy.

use crate::{
    bundle::{Probe, ProbeKind, ProbeRole, ServiceSettings, Thresholds},
    observed::Verdict,
    time::Instant,
};

/// What one probe answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// As expected.
    Passed,
    /// Not as expected, with how.
    Failed(String),
    /// It answered, but says nothing (the disabled IS health API), or could not be asked.
    Unknown(String),
}

/// One probe's answer in one round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    /// The probe's name.
    pub name: String,
    /// What it says.
    pub role: ProbeRole,
    /// The answer.
    pub answer: Answer,
}

/// All that is asked of a server: its profile's probes, and a connection to each required port that none of them
/// asks already.
pub fn probes(settings: &ServiceSettings) -> Vec<Probe> {
    let asked = |number: u16| {
        settings.probes.iter().any(|probe| match probe.kind {
            ProbeKind::Http { port, .. } => port == number,
            ProbeKind::Tcp(port) => port == number,
        })
    };
    let ports = settings.ports.iter().filter(|port| port.required && !asked(port.number)).map(|port| Probe {
        name: format!("port {}", port.name),
        role: ProbeRole::Readiness,
        kind: ProbeKind::Tcp(port.number),
        timeout: std::time::Duration::from_secs(2),
    });
    settings.probes.iter().cloned().chain(ports).collect()
}

/// Counts rounds and keeps the verdict.
#[derive(Debug, Clone)]
pub struct Health {
    verdict: Verdict,
    started: Option<Instant>,
    passed: u32,
    failed: u32,
    /// Rounds in a row in which a liveness probe failed, grace excluded.
    dead: u32,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            verdict: Verdict::Unknown("not probed yet".to_owned()),
            started: None,
            passed: 0,
            failed: 0,
            dead: 0,
        }
    }
}

impl Health {
    /// The verdict now.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// A new process: whatever was known no longer holds.
    pub fn on_start(&mut self, now: Instant) {
        *self = Self {
            verdict: Verdict::Unknown("the server is starting".to_owned()),
            started: Some(now),
            ..Self::default()
        };
    }

    /// No process to judge.
    pub fn on_down(&mut self, verdict: Verdict) {
        *self = Self { verdict, ..Self::default() };
    }

    /// Whether liveness failed in so many rounds, after grace, that the server must be thought to hang: three times
    /// as many as make it Unhealthy.
    pub fn hangs(&self, thresholds: &Thresholds) -> bool {
        thresholds.failure.max(1).saturating_mul(3) <= self.dead
    }

    /// One round of answers.
    pub fn on_round(&mut self, thresholds: &Thresholds, now: Instant, results: &[ProbeResult]) {
        let of = |result: &ProbeResult, how: &str| format!("{}: {how}", result.name);
        let failure = results.iter().find_map(|result| match &result.answer {
            Answer::Failed(how) => Some(of(result, how)),
            Answer::Passed | Answer::Unknown(_) => None,
        });
        let doubt = results.iter().find_map(|result| match &result.answer {
            Answer::Unknown(how) if result.role == ProbeRole::Readiness => Some(of(result, how)),
            Answer::Unknown(_) | Answer::Passed | Answer::Failed(_) => None,
        });
        let dead = results
            .iter()
            .any(|result| result.role == ProbeRole::Liveness && matches!(result.answer, Answer::Failed(_)));
        self.dead = if dead && !self.in_grace(thresholds, now) { self.dead.saturating_add(1) } else { 0 };
        match (failure, doubt) {
            (Some(reason), _) => self.on_failure(thresholds, now, reason),
            (None, Some(reason)) => self.verdict = Verdict::Unknown(reason),
            (None, None) if results.is_empty() => {
                self.verdict = Verdict::Unknown("the product has no probe".to_owned());
            }
            (None, None) => {
                self.failed = 0;
                self.passed = self.passed.saturating_add(1);
                if thresholds.success.max(1) <= self.passed {
                    self.verdict = Verdict::Healthy;
                }
            }
        }
    }

    fn in_grace(&self, thresholds: &Thresholds, now: Instant) -> bool {
        self.started.is_some_and(|started| now.since(started) < thresholds.grace)
    }

    fn on_failure(&mut self, thresholds: &Thresholds, now: Instant, reason: String) {
        self.passed = 0;
        if self.in_grace(thresholds, now) && self.verdict != Verdict::Healthy {
            self.verdict = Verdict::Unknown(format!("starting; {reason}"));
            return;
        }
        self.failed = self.failed.saturating_add(1);
        if thresholds.failure.max(1) <= self.failed {
            self.verdict = Verdict::Unhealthy(reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn round(answers: &[&str]) -> Vec<ProbeResult> {
        let answer = |word: &str| match word {
            "ok" => Answer::Passed,
            "?" => Answer::Unknown("empty".into()),
            how => Answer::Failed(how.into()),
        };
        let result = |(index, word): (usize, &&str)| ProbeResult {
            name: format!("p{index}"),
            role: ProbeRole::Readiness,
            answer: answer(word),
        };
        answers.iter().enumerate().map(result).collect()
    }

    fn after(rounds: &[(u64, &[&str])]) -> Verdict {
        let thresholds = Thresholds {
            period: Duration::from_secs(1),
            failure: 2,
            success: 2,
            grace: Duration::from_secs(10),
        };
        let mut health = Health::default();
        health.on_start(Instant(0));
        for (second, answers) in rounds {
            health.on_round(&thresholds, Instant(second * 1000), &round(answers));
        }
        health.verdict().clone()
    }

    #[test]
    fn one_success_is_not_healthy_yet_and_one_failure_not_unhealthy() {
        assert!(matches!(after(&[(1, &["ok"])]), Verdict::Unknown(_)));
        assert_eq!(after(&[(1, &["ok"]), (2, &["ok"])]), Verdict::Healthy);
        let healthy: &[(u64, &[&str])] = &[(1, &["ok"]), (2, &["ok"]), (3, &["down"])];
        assert_eq!(after(healthy), Verdict::Healthy);
        let twice: &[(u64, &[&str])] = &[(1, &["ok"]), (2, &["ok"]), (3, &["down"]), (4, &["down"])];
        assert_eq!(after(twice), Verdict::Unhealthy("p0: down".into()));
    }

    #[test]
    fn failures_in_grace_do_not_count() {
        assert!(matches!(after(&[(1, &["down"]), (2, &["down"]), (9, &["down"])]), Verdict::Unknown(_)));
        assert!(matches!(after(&[(11, &["down"]), (12, &["down"])]), Verdict::Unhealthy(_)));
    }

    #[test]
    fn a_disabled_health_api_is_unknown_never_healthy() {
        assert_eq!(after(&[(1, &["ok", "?"]), (2, &["ok", "?"])]), Verdict::Unknown("p1: empty".into()));
        assert!(matches!(after(&[(1, &[]), (2, &[])]), Verdict::Unknown(_)));
    }
}
