use super::*;

const NOW: Timestamp = Timestamp(1_000);

fn concern(kind: &str, detail: &str) -> Concern {
    Concern { kind: ConcernKind::of(kind), detail: detail.to_owned(), remedy: "see to it".to_owned() }
}

fn told_of(before: &[Concern], after: &[Concern]) -> Vec<(String, String)> {
    concerns(NOW, before, after).into_iter().map(|event| (event.kind, event.text)).collect()
}

#[test]
fn a_concern_that_begins_is_told_and_so_is_its_end_and_a_new_measurement_is_neither() {
    let low = [concern("disk-low", "3 % are free")];
    let lower = [concern("disk-low", "2 % are free")];
    let pair = |kind: &str, text: &str| vec![(kind.to_owned(), text.to_owned())];
    assert_eq!(told_of(&[], &low), pair("concern-began", "disk-low: 3 % are free"));
    assert_eq!(told_of(&low, &lower), []);
    assert_eq!(told_of(&lower, &[]), pair("concern-ended", "disk-low is over"));
}

#[test]
fn concerns_of_one_kind_are_counted() {
    let of = |files: &[&str]| -> Vec<Concern> {
        files.iter().map(|file| concern("secret-residue", &format!("{file} holds a secret"))).collect()
    };
    assert_eq!(told_of(&of(&["a"]), &of(&["a", "b"]))[0].1, "secret-residue: b holds a secret");
    assert_eq!(told_of(&of(&["a", "b"]), &of(&["b"]))[0].1, "secret-residue: 1 of 2 are over");
}

#[test]
fn a_verdict_is_told_when_it_becomes_another_and_not_when_its_words_change() {
    let unhealthy = |why: &str| Verdict::Unhealthy(why.to_owned());
    let unknown = Verdict::Unknown("the agent has not looked yet".to_owned());
    let text = |before: Option<&Verdict>, after: &Verdict| health(NOW, before, after).map(|event| event.text);
    assert_eq!(text(None, &Verdict::Healthy).as_deref(), Some("its server is healthy"));
    assert_eq!(text(None, &unknown), None);
    assert_eq!(text(Some(&Verdict::Healthy), &Verdict::Healthy), None);
    let fails = text(Some(&Verdict::Healthy), &unhealthy("port 9443 does not answer"));
    assert_eq!(fails.as_deref(), Some("its server is not healthy: port 9443 does not answer"));
    assert_eq!(text(Some(&unhealthy("a")), &unhealthy("b")), None);
    let lost = text(Some(&unhealthy("a")), &unknown);
    assert_eq!(
        lost.as_deref(),
        Some("whether its server is healthy is not known: the agent has not looked yet")
    );
}
