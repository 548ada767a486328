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
// ECDSA and RSA with 3072 bits.
const CAROL: &str = r"ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBBXObot00Kt3uP1Ad7f124XwzhoKDtznhJJtPmC2Hi8E2L7ndK8kVhYupl4J5PhGdUwXdrz+ZYak7JCuN9H7Pr8= carol";
const DAVE: &str = r"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDD8OYtIBYNJR60LpqPIL6sV2xgyAU10xnT/p44nR0ROCRhJN/WfpR9Cd7yAKN2FXe2n2NCKGueceeWN96QMdxACsQqk5jppBVzez3sJxUyVW8wompBY8R/rxgZ/cifPqkPkw/wccnWPnnmBwrRTXO94fS5oTbxx5epf4vBi1QR9Zz6K0Ixl4n9I7PN+zmw3lU9KvhGJNNLyU2TkJu/qhVhnmASYL7b/FGqdbR62YhfxuoVo3YV9Cvqmsrayvz4g2T4yUmdKDHohatI1ehHiIoFGsY2p8Skrrof62tUSXyTmn9WrrwICaPh0rKICd+u1E19ASHNuHSu13E6vTGamXhGDhzADT36jHQPRZFMdEfjhZQeNjsEN5vZfmxg7X+HS3Or2mmcS53RSPRfJgae5PccelQy6nQdeNCLgrwFY2nny7d5E9SOGjZaed6uITjd9DeRgs3+x15pjyVjqDIyADITt6Io7Y0+rf+wrPIaU4PUcMEULxCCT+7ukDY8JoxHsm0= dave";
const BY_CAROL: &str = r"-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAAGgAAAATZWNkc2Etc2hhMi1uaXN0cDI1NgAAAAhuaXN0cDI1NgAAAE
EEFc5ui3TQq3e4/UB3t/XbhfDOGgoO3OeEkm0+YLYeLwTYvud0ryRWFi6mXgnk+EZ1TBd2
vP5lhqTskK430fs+vwAAAAZjb252b3kAAAAAAAAABnNoYTUxMgAAAGUAAAATZWNkc2Etc2
hhMi1uaXN0cDI1NgAAAEoAAAAhAPZv/uCK5D76CYjZWqM9gQWuZukH+3Ji72t2sn3DWL8c
AAAAIQCOqz8gdl/LKuWfO4xg4jOXbqG7wXafoGMoeDfjQmZznA==
-----END SSH SIGNATURE-----
";
const BY_DAVE: &str = r"-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAAZcAAAAHc3NoLXJzYQAAAAMBAAEAAAGBAMPw5i0gFg0lHrQumo8gvq
xXbGDIBTXTGdP+njidHRE4JGEk39Z+lH0J3vIAo3YVd7afY0Ioa55x55Y33pAx3EAKxCqT
mOmkFXN7PewnFTJVbzCiakFjxH+vGBn9yJ8+qQ+TD/BxydY+eeYHCtFNc73h9LmhNvHHl6
l/i8GLVBH1nPorQjGXif0js837ObDeVT0q+EYk00vJTZOQm7+qFWGeYBJgvtv8Uap1tHrZ
iF/G6hWjdhX0K+qaytrK/PiDZPjJSZ0oMeiFq0jV6EeIigUaxjanxKSuuh/ra1RJfJOaf1
auvAgJo+HSsogJ367UTX0BIc24dK7XcTq9MZqZeEYOHMANPfqMdA9FkUx0R+OFlB42OwQ3
m9l+bGDtf4dLc6vaaZxLndFI9F8mBp7k9xx6VDLqdB140IuCvAVjaefLt3kT1I4aNlp53q
4hON30N5GCzf7HXmmPJWOoMjIAMhO3oijtjT6t/7Cs8hpTg9RwwRQvEIJP7u6QNjwmjEey
bQAAAAZjb252b3kAAAAAAAAABnNoYTUxMgAAAZQAAAAMcnNhLXNoYTItNTEyAAABgA+PLR
waWvIW/zEDYDFMgIneNcFxh4M1jvy9yspogySdk82lulprFlBjyl71PwiccOI4Q1i6yR15
t/EKWqRqh3EYkbS9yG4GOMrOzC/gyo/7awZ0s7ZikxmG7QbCcqZ20r5yX/suB1ztllhkv5
abqIXxvm1wMO6FKXUvNP8cDrPo+YcOXV44tB8CEYPc8JD2P4QAE3Szpt7Z2a+W4Huz5V/k
x6OYGaA+8IvZHl4YVOP77/bAfMgrSGyqu3HMmESydjVFX+6a0YEMAD+PiApJVGXO8seXDz
fuSHAOFviNUVQDD5UetmEfSHNzwGB1vhd7YZl61ymx29x27cgCxb9ZoIaWm2bJoBZKS7pI
mfhuWUr4sN1EjLK5pyTOJw8LiixHCnQWnpSnKUafU0h3KFR7NUf32Jg7Yo/vs1qS4l6Y2o
MxS9hPPJlaicBifwm4Yvjv5K5UjFNUXUaslJdk6vHmIsgJMOtxg9CwWB5JJyhA2vaFYERw
0z6Zy5DQAiLFCUZQnQ==
-----END SSH SIGNATURE-----
";
/// As no `ssh-keygen` makes them: the same key with SHA-256, and with SHA-1; by `openssl dgst -sign`.
const BY_DAVE_SHA256: &str = r"-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAAZcAAAAHc3NoLXJzYQAAAAMBAAEAAAGBAMPw5i0gFg0lHrQumo8gvq
xXbGDIBTXTGdP+njidHRE4JGEk39Z+lH0J3vIAo3YVd7afY0Ioa55x55Y33pAx3EAKxCqT
mOmkFXN7PewnFTJVbzCiakFjxH+vGBn9yJ8+qQ+TD/BxydY+eeYHCtFNc73h9LmhNvHHl6
l/i8GLVBH1nPorQjGXif0js837ObDeVT0q+EYk00vJTZOQm7+qFWGeYBJgvtv8Uap1tHrZ
iF/G6hWjdhX0K+qaytrK/PiDZPjJSZ0oMeiFq0jV6EeIigUaxjanxKSuuh/ra1RJfJOaf1
auvAgJo+HSsogJ367UTX0BIc24dK7XcTq9MZqZeEYOHMANPfqMdA9FkUx0R+OFlB42OwQ3
m9l+bGDtf4dLc6vaaZxLndFI9F8mBp7k9xx6VDLqdB140IuCvAVjaefLt3kT1I4aNlp53q
4hON30N5GCzf7HXmmPJWOoMjIAMhO3oijtjT6t/7Cs8hpTg9RwwRQvEIJP7u6QNjwmjEey
bQAAAAZjb252b3kAAAAAAAAABnNoYTUxMgAAAZQAAAAMcnNhLXNoYTItMjU2AAABgLhGlv
8zO/pGvkvz+QHawkS598zSXKQHjB/Ow05l6ryLyXaQKijnSQwPg7M3DVLDRPkbdUoUhwTc
XIQdBXTaWQIkp2h6xL4DN9cZuN6KyXigoA4SSC81iFCqSb67LJfMGZNZZE59lGWtzfFDCI
8HgHQTnlZVAPUIWHYpaajywQjCG3Ar+r2tdU4rqbHXGeM7DMPVKjcezQqrBRKJhyYOsQad
EJ2sD71YMnxpSbiI0OH5oKNQagSRgILjxhQUw7rP1lkKoKRE/Cq5Bn5YuicUTq41DIj0o3
QrdhzRV2RwdguNyPLCZYpeag1sDuAnycCLdpU9IEIj8yooKkxXxwYX7cBOUSKipfNT3hwD
aJN7CPjmAO3N1cZnfQ1mSaC9RlVZs8O/C3hEt+OeteBW+H6BX54gG9rXooAztRq+JrCHUs
/5KCfjzCm++0CpJx9qePwvdzvuzqFDQJLhj//6tiE0zsOP3kMoNYGOPrpDEGHkD/APbIoP
wqR9pQNBQyxnU0W9ww==
-----END SSH SIGNATURE-----
";
const BY_DAVE_SHA1: &str = r"-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAAZcAAAAHc3NoLXJzYQAAAAMBAAEAAAGBAMPw5i0gFg0lHrQumo8gvq
xXbGDIBTXTGdP+njidHRE4JGEk39Z+lH0J3vIAo3YVd7afY0Ioa55x55Y33pAx3EAKxCqT
mOmkFXN7PewnFTJVbzCiakFjxH+vGBn9yJ8+qQ+TD/BxydY+eeYHCtFNc73h9LmhNvHHl6
l/i8GLVBH1nPorQjGXif0js837ObDeVT0q+EYk00vJTZOQm7+qFWGeYBJgvtv8Uap1tHrZ
iF/G6hWjdhX0K+qaytrK/PiDZPjJSZ0oMeiFq0jV6EeIigUaxjanxKSuuh/ra1RJfJOaf1
auvAgJo+HSsogJ367UTX0BIc24dK7XcTq9MZqZeEYOHMANPfqMdA9FkUx0R+OFlB42OwQ3
m9l+bGDtf4dLc6vaaZxLndFI9F8mBp7k9xx6VDLqdB140IuCvAVjaefLt3kT1I4aNlp53q
4hON30N5GCzf7HXmmPJWOoMjIAMhO3oijtjT6t/7Cs8hpTg9RwwRQvEIJP7u6QNjwmjEey
bQAAAAZjb252b3kAAAAAAAAABnNoYTUxMgAAAY8AAAAHc3NoLXJzYQAAAYBAS40rchdFsg
kZw1FT6Q4ayb/QTKbDl0qmTBOocKT1xTCh8Z9gng6IkWC0pG9rJdbMbl5nG+h4W8B7a1Uo
jHUY4tEgTNS4RZK2QWr8N89ufP0alGM4/ViEAiNd7KEXVT8HDGuaHkBMkY/q6i7n2W0sVE
yV8dzeqVp9Iu0vU3mkGW4dCu5b2n+OBQU3FkBYyg6kDCwaQdQ8tgcl6Rzu3bZCD/R6V+Wz
VT1BF/OP5BrTS0m1DeV8npUPUwsmJlpi0/6x9WHxpkIQUpDv3WntASoIj2wgKmCy8rXHbD
yoYRdrSOoWAoE/HCSxBT0bAZaJC8eh4HL1I308UjBFQ9Gj8X0uFE6i+dj6uZUCCVJT7p6E
r9TCU4m3Zf9CptL7Jm+zJlbkVL5Xu/UadNew6Vi+5BsKfAwOFeKPAztJlMPZhjt8I4R3li
PQgnwgNW1nF/DwcDIz62ZKVGej+DovxvjL96OiKc+IK8zsdvFzGciZmeATGgrM1DaTJdM9
lwACq2eMEr0=
-----END SSH SIGNATURE-----
";

fn keys(texts: &[&str]) -> Vec<SigningKey> {
    texts.iter().map(|text| SigningKey::parse(text).unwrap()).collect()
}

fn verified(statement: &str, signature: &str, listed: &[&str]) -> Result<String, String> {
    verify(statement, signature, &keys(listed)).map(SigningKey::name)
}

#[test]
fn a_signature_counts_for_what_was_signed_by_a_key_that_is_listed() {
    let all = [BOB, ANN, SPARE, RELEASE, CAROL, DAVE];
    for (signature, by) in [
        (BY_ANN, "the SSH key ann@acme laptop"),
        (BY_ANN_SHA256, "the SSH key ann@acme laptop"),
        (BY_RELEASE, "the minisign key release"),
        (BY_CAROL, "the SSH key carol"),
        (BY_DAVE, "the SSH key dave"),
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

#[test]
fn rsa_signs_with_sha_512_only() {
    let refused = |signature: &str| verified(STATEMENT, signature, &[ANN, DAVE]).unwrap_err();
    let sha256 = refused(BY_DAVE_SHA256);
    assert!(
        sha256.contains("by rsa-sha2-256") && sha256.contains("rsa-sha2-512 and those of security tokens"),
        "{sha256}"
    );
    assert!(refused(BY_DAVE_SHA1).contains("cannot be read"), "{}", refused(BY_DAVE_SHA1));
}

#[test]
fn an_rsa_key_is_as_long_as_it_says() {
    let key = PublicKey::from_openssh(DAVE).unwrap();
    let KeyData::Rsa(public) = key.key_data() else { panic!("an RSA key") };
    assert!(rsa_key(public).is_some());
    let modulus = public.n.as_positive_bytes().unwrap();
    let shorter = ssh_key::Mpint::from_positive_bytes(&modulus[1..]).unwrap();
    assert_eq!(rsa_key(&RsaPublicKey { n: shorter, e: public.e.clone() }), None);
    let mut halved = modulus.to_vec();
    halved[0] >>= 1;
    let halved = ssh_key::Mpint::from_positive_bytes(&halved).unwrap();
    assert_eq!(rsa_key(&RsaPublicKey { n: halved, e: public.e.clone() }), None);
}

#[test]
fn a_changed_signature_by_ecdsa_or_rsa_is_noticed() {
    for (signature, at) in [(BY_CAROL, 4), (BY_DAVE, 14)] {
        let lines: Vec<&str> = signature.lines().collect();
        for place in (35..65).step_by(9) {
            let mut line = lines[at].as_bytes().to_vec();
            line[place] = if line[place] == b'A' { b'B' } else { b'A' };
            let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            changed[at] = String::from_utf8(line).unwrap();
            let why = verified(STATEMENT, &changed.join("\n"), &[CAROL, DAVE]).unwrap_err();
            assert!(why.contains("is not one of this apply"), "place {place}: {why}");
        }
    }
}
