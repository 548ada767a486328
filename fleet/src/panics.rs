//! What may be shown of a panic. Its message may quote what was being worked on: a slice that cuts a character in two
//! shows the text, `expect` shows the error with all its fields. So only the words before the first quotation are shown;
//! with the place in the code they tell as much.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind},
};

/// Where quotations of values begin: quoted texts, characters, lists of bytes, fields, and the operands of assertions.
const QUOTES: [char; 6] = ['`', '"', '\'', '[', '{', '\n'];

/// What may be shown of the message of a panic.
pub fn shown(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("no message");
    match text.split_once(QUOTES) {
        Some((before, _)) => format!("{}…", before.trim_end()),
        None => text.to_owned(),
    }
}

/// The line for a log.
pub fn line(panic: &PanicHookInfo<'_>) -> String {
    let text = shown(panic.payload());
    match panic.location() {
        Some(place) => format!("a defect of Convoy: panicked at {place}: {text}"),
        None => format!("a defect of Convoy: panicked: {text}"),
    }
}

/// Does `work`. If it panics, whoever learns of that (a join handle, for one) learns only what may be shown.
pub fn tamed<T>(work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| raise(&*panic))
}

/// Goes on with a panic that was caught, without what may not be shown.
pub fn raise(panic: &(dyn Any + Send)) -> ! {
    resume_unwind(Box::new(shown(panic)))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// What the panic is about, and what brings it about.
    type Case = (&'static str, Box<dyn Fn()>);

    /// The panics of code that has a secret in its hands.
    fn panics() -> Vec<Case> {
        let secret = "C4NARY-é-secret".to_owned();
        let (cut, missing, bytes, worst) = (secret.clone(), secret.clone(), secret.clone(), secret);
        vec![
            ("char boundary", Box::new(move || assert!(!cut[..8].is_empty()))),
            ("out of bounds", Box::new(move || assert!(!missing[99..].is_empty()))),
            (
                "it is UTF-8",
                Box::new(move || {
                    let mut bytes = bytes.clone().into_bytes();
                    bytes.push(0xff);
                    String::from_utf8(bytes).map(drop).expect("it is UTF-8");
                }),
            ),
            ("assertion", Box::new(move || assert_eq!(worst, "another"))),
            ("index out of bounds", Box::new(|| drop(Vec::<String>::new().swap_remove(usize::from(true))))),
        ]
    }

    #[test]
    fn no_panic_shows_what_was_being_worked_on() {
        static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
        std::panic::set_hook(Box::new(|panic| LINES.lock().unwrap().push(line(panic))));
        for (about, work) in panics() {
            let bare = catch_unwind(AssertUnwindSafe(&work)).unwrap_err();
            let tamed = catch_unwind(AssertUnwindSafe(|| tamed(&work))).unwrap_err();
            let told = tamed.downcast_ref::<String>().unwrap();
            for text in [&shown(&*bare), told] {
                assert!(!text.contains("C4NARY") && !text.contains("67, 52"), "{about}: {text}");
            }
        }
        let lines = std::mem::take(&mut *LINES.lock().unwrap());
        drop(std::panic::take_hook());
        // Each was told twice, by its place; going on with one tells nobody again.
        assert_eq!(lines.len(), 2 * panics().len(), "{lines:#?}");
        for line in &lines {
            assert!(!line.contains("C4NARY") && !line.contains("67, 52"), "{line}");
            assert!(line.contains("panicked at ") && line.contains(".rs:"), "{line}");
        }
        assert!(lines.iter().any(|line| line.ends_with("it is UTF-8: FromUtf8Error…")), "{lines:#?}");
    }
}
