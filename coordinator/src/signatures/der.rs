//! Numbers as SSH has them, in the DER that ring takes. Both are big-endian in two's complement, so only lengths are added;
//! ring refuses a number that is negative or longer than it has to be.

/// A SEQUENCE of INTEGERs.
pub(super) fn sequence(numbers: &[&[u8]]) -> Vec<u8> {
    let body: Vec<u8> = numbers.iter().flat_map(|number| element(0x02, number)).collect();
    element(0x30, &body)
}

/// The two numbers of an ECDSA signature of SSH (RFC 5656, 3.1.2); `None`: there are not exactly two.
pub(super) fn pair(signature: &[u8]) -> Option<Vec<u8>> {
    let (first, rest) = number(signature)?;
    let (second, rest) = number(rest)?;
    rest.is_empty().then(|| sequence(&[first, second]))
}

/// A number with its length before it, and what follows.
fn number(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut bytes = vec![tag];
    match (length, content.len()) {
        ([length], 0..=127) => bytes.push(*length),
        ([], _) => bytes.push(0),
        // At most eight bytes of length.
        (length, _) => {
            bytes.push(0x80 | length.len() as u8);
            bytes.extend(length);
        }
    }
    bytes.extend(content);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_short_as_they_can_be() {
        assert_eq!(sequence(&[]), [0x30, 0]);
        assert_eq!(sequence(&[&[1], &[0, 0x80]]), [0x30, 7, 2, 1, 1, 2, 2, 0, 0x80]);
        assert_eq!(element(4, &[0; 127])[..2], [4, 127]);
        assert_eq!(element(4, &[0; 128])[..3], [4, 0x81, 128]);
        assert_eq!(element(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
    }

    #[test]
    fn a_pair_is_two_numbers_and_nothing_else() {
        assert_eq!(pair(&[0, 0, 0, 1, 5, 0, 0, 0, 2, 0, 0x90]).unwrap(), [0x30, 7, 2, 1, 5, 2, 2, 0, 0x90]);
        for bad in [
            &[][..],
            &[0, 0, 0, 1, 5],
            &[0, 0, 0, 9, 5, 0, 0, 0, 1, 1],
            &[0, 0, 0, 1, 5, 0, 0, 0, 1, 6, 7],
            &[0xff, 0xff, 0xff, 0xff, 1],
        ] {
            assert_eq!(pair(bad), None, "{bad:?}");
        }
    }
}
