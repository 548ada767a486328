use super::*;

/// What is signed below, by the real `ssh-keygen` (OpenSSH 9.2) and `minisign` (0.11).
const STATEMENT: &str = "convoy apply v1\nfleet acme\n";
const ANN: &str =
    r"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKE/mSM43XW2wqo7RNF0Kcf6SMDl1gkX2NwT1EL/pvXK ann@acme laptop";
const BOB: &str = r"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBDkjts3xwcIRzzVzB6YmDNWPSP6zHoJCuKqEOE5rV9V bob";
const RELEASE: &str = r"RWR0LHOTuYE0Fh1cnwTsACt+aQyFywqA78B1wxJJZpiknN27qy1diJG+ release";
const SPARE: &str = r"RWQTKcqbFiy5FCIs2QSJKjopT8A7aTPHtMSst46HhkV89KmjmAdr/vK2";
const BY_ANN: &str = r"-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgoT+ZIzjddbbCqjtE0XQpx/pIwO
XWCRfY3BPUQv+m9coAAAAGY29udm95AAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1lZDI1
NTE5AAAAQADAmzNV6zRYOxvbti9fmkrZ8g4aYVzEjz3B9xOYEbDj8oqAgeUJp+Ybc486Q1
QbZ8VMBbLJ5X9Hvkz6dOWH1gs=
-----END SSH SIGNATURE-----
";
const BY_ANN_SHA256: &str = r"-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgoT+ZIzjddbbCqjtE0XQpx/pIwO
XWCRfY3BPUQv+m9coAAAAGY29udm95AAAAAAAAAAZzaGEyNTYAAABTAAAAC3NzaC1lZDI1
NTE5AAAAQE8dNNsKFN4S3UuBZtLqFY7Zazaba0Loo2mN2iFPaROG2D13bzh/kSoYROEtDF
P9T9Ue1qkj3WBQd6df6ZJpHAM=
-----END SSH SIGNATURE-----
";
const BY_ANN_FOR_GIT: &str = r"-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgoT+ZIzjddbbCqjtE0XQpx/pIwO
XWCRfY3BPUQv+m9coAAAADZ2l0AAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1lZDI1NTE5
AAAAQIphQtXsP+RR8VO1lyxJQI+WQKKRP8OcJ6Obf6QdSTXgAs1/w7ETOWibXEjIpBdpQ+
tGSe6RVg7ahkA83iACEAo=
-----END SSH SIGNATURE-----
";
const BY_RELEASE: &str = r"untrusted comment: signature from minisign secret key
RUR0LHOTuYE0Fi9/2r8TXo7gzyp6292vCdWXPaMiXLkXX/pCCihXqLQM8eAQZlAjY6kiYy4Jd4LLI0lNyBfJ+/yhkxDeAauHlgM=
trusted comment: timestamp:1796069667	file:st	hashed
OEr6qlvlFjzko8AYkNdq3bq0wk3Rh5Poa0qR3vVNXzQKnyIokZvl+CQShjF+FcGvVhRvzAhbEYndz8A6u7yTAA==
";
const BY_RELEASE_LEGACY: &str = r"untrusted comment: signature from minisign secret key
RWR0LHOTuYE0FjWRZbWVpmpnihtMNLR/+lSg/OJ4pNvFcgbsjcLKObPkkyRZAaTc0O1BNYiq91lpMKx98hWDRXtkDjoxcOintwE=
trusted comment: timestamp:1796069667	file:st
EQBmOCNQCCv+H7qicqWZzsfHBI/keUUInqeMpLVwKNOGCxr/A98YfN8D4y/7XfjevR1cphL8UtbPzv/a3I9SAA==
";

fn keys(texts: &[&str]) -> Vec<SigningKey> {
    texts.iter().map(|text| SigningKey::parse(text).unwrap()).collect()
}

fn verified(statement: &str, signature: &str, listed: &[&str]) -> Result<String, String> {
    verify(statement, signature, &keys(listed)).map(SigningKey::name)
}

#[test]
fn a_signature_counts_for_what_was_signed_by_a_key_that_is_listed() {
    let all = [BOB, ANN, SPARE, RELEASE];
    for (signature, by) in [
        (BY_ANN, "the SSH key ann@acme laptop"),
        (BY_ANN_SHA256, "the SSH key ann@acme laptop"),
        (BY_RELEASE, "the minisign key release"),
    ] {
        assert_eq!(verified(STATEMENT, signature, &all).as_deref(), Ok(by));
        assert_eq!(verified(STATEMENT, &format!("\n{signature}\n"), &all).as_deref(), Ok(by));
        let other = verified(&STATEMENT.replace("acme", "acne"), signature, &all).unwrap_err();
        assert!(other.contains(&format!("the signature by {by} is not one of this apply")), "{other}");
        let unlisted = verified(STATEMENT, signature, &[BOB, SPARE]).unwrap_err();
        assert!(
            unlisted.contains("which the fleet does not list")
                || unlisted.contains("that the fleet does not list")
        );
        let nobody = verified(STATEMENT, signature, &[]).unwrap_err();
        assert!(nobody.contains("lists no key that may sign"), "{nobody}");
    }
}

#[test]
fn a_signature_for_something_else_or_none_at_all_is_refused() {
    let refused = |signature: &str| verified(STATEMENT, signature, &[ANN, RELEASE]).unwrap_err();
    assert!(refused(BY_ANN_FOR_GIT).contains("is one for \"git\""));
    // Not prehashed: the form of minisign before 0.10.
    assert!(refused(BY_RELEASE_LEGACY).contains("is not one of this apply"));
    for nothing in [
        "x",
        "-----BEGIN SSH SIGNATURE-----",
        "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n",
    ] {
        assert!(refused(nothing).contains("signature"), "{nothing}");
    }
    // A changed character in the signature itself is noticed.
    let lines: Vec<&str> = BY_ANN.lines().collect();
    for place in (14..70).step_by(7) {
        let mut line = lines[3].as_bytes().to_vec();
        line[place] = if line[place] == b'A' { b'B' } else { b'A' };
        let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        changed[3] = String::from_utf8(line).unwrap();
        assert!(refused(&changed.join("\n")).contains("is not one of this apply"), "place {place}");
    }
}
