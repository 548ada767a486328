//! Which Java is it? Reads what `java -version` prints, of every vendor and every numbering since 1.x.

/// The feature version (8, 11, 17, 21 …) in the output of `java -version`, which all vendors print on standard error
/// as `<word> version "<version>"`.
///
/// Lines before it, such as `Picked up JAVA_TOOL_OPTIONS: …`, are passed over.
pub fn feature_version(output: &str) -> Option<u32> {
    output.lines().find_map(|line| {
        let (_, rest) = line.split_once(" version ")?;
        let rest = rest.trim_start();
        let version = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next()?,
            // Early-access and some embedded builds leave the quotes out.
            None => rest.split_whitespace().next()?,
        };
        feature_of(version)
    })
}

/// The feature version of a version text: `1.8.0_392` is 8, `17.0.15` is 17, `22-ea` is 22.
pub fn feature_of(version: &str) -> Option<u32> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let first: u32 = numbers.next()?.parse().ok()?;
    // Up to Java 8 the feature version was the second number, since 1996 always after a 1.
    if first == 1 { numbers.next()?.parse().ok() } else { Some(first) }
}

/// A range of feature versions for people: `11 to 17`, `21 or later`.
pub fn range((min, max): (u32, Option<u32>)) -> String {
    match max {
        Some(max) if max == min => format!("JDK {min}"),
        Some(max) => format!("JDK {min} to {max}"),
        None => format!("JDK {min} or later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vendor_and_every_numbering_is_read() {
        let cases = [
            ("openjdk version \"1.8.0_392\"\nOpenJDK Runtime Environment (Temurin)(build 1.8.0_392-b08)", 8),
            ("java version \"1.8.0_391\"\nJava(TM) SE Runtime Environment (build 1.8.0_391-b13)", 8),
            ("openjdk version \"11.0.2\" 2019-01-15", 11),
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK 64-Bit Server VM (build 17.0.15+6, mixed)", 17),
            ("openjdk version \"21\" 2023-09-19", 21),
            ("java version \"21.0.1\" 2023-10-17 LTS", 21),
            ("openjdk version \"21.0.5.0.1\" 2024-10-15 LTS\nOpenJDK Runtime Environment Corretto-21", 21),
            ("openjdk version \"22-ea\" 2024-03-19", 22),
            ("openjdk version \"11.0.20.1\" 2023-08-22\nIBM Semeru Runtime Open Edition 11.0.20.1", 11),
            ("Picked up JAVA_TOOL_OPTIONS: -Dfile.encoding=UTF-8\nopenjdk version \"25\" 2025-09-16", 25),
            ("openjdk version 11.0.9-internal", 11),
        ];
        for (output, feature) in cases {
            assert_eq!(feature_version(output), Some(feature), "{output}");
        }
    }

    #[test]
    fn what_is_no_java_has_no_version() {
        for output in ["", "bash: java: command not found", "openjdk version \"\"", "Python 3.11.2"] {
            assert_eq!(feature_version(output), None, "{output}");
        }
    }

    #[test]
    fn a_range_reads_like_a_sentence() {
        assert_eq!(range((11, Some(17))), "JDK 11 to 17");
        assert_eq!(range((21, None)), "JDK 21 or later");
        assert_eq!(range((8, Some(8))), "JDK 8");
    }
}
