//! Takes the commands out of what a page shows: code blocks with prompts, pipes and comments, and code within sentences.
//! It knows as much of a shell as the documentation uses, and no more.

/// One command: the line that it begins in, and its words, without redirections.
#[derive(Debug, PartialEq, Eq)]
pub struct Shown {
    pub line: usize,
    pub words: Vec<String>,
}

/// Commands in the code blocks of a page that hold shell, or say nothing of their language.
pub fn in_blocks(text: &str) -> Vec<Shown> {
    let mut shown = Vec::new();
    let mut block: Option<(bool, Vec<(usize, String)>)> = None;
    for (index, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut block) {
            (Some(language), None) => {
                let is_shell = ["", "sh", "bash", "console"].contains(&language.trim());
                block = Some((is_shell, Vec::new()));
            }
            (Some(_), Some(_)) => {
                if let Some((true, lines)) = block.take() {
                    shown.extend(of_block(&lines));
                }
                block = None;
            }
            (None, Some((_, lines))) => push(lines, index + 1, line),
            (None, None) => {}
        }
    }
    shown
}

/// A line that ends in a backslash goes on in the next one.
fn push(lines: &mut Vec<(usize, String)>, number: usize, line: &str) {
    match lines.last_mut() {
        Some((_, last)) if last.ends_with('\\') => {
            last.pop();
            last.push_str(line.trim_start());
        }
        _ => lines.push((number, line.to_owned())),
    }
}

fn of_block(lines: &[(usize, String)]) -> Vec<Shown> {
    // Where lines have prompts, the others are what the commands print.
    let has_prompts = lines.iter().any(|(_, line)| prompted(line).is_some());
    let typed = lines.iter().filter_map(|(number, line)| {
        let line = if has_prompts { prompted(line)? } else { line.as_str() };
        Some((*number, line))
    });
    typed.flat_map(|(line, text)| of_line(text).into_iter().map(move |words| Shown { line, words })).collect()
}

/// What follows `$ `, `host# ` or `alice$ `.
fn prompted(line: &str) -> Option<&str> {
    let (prompt, rest) = line.split_once(' ')?;
    let who = prompt.strip_suffix(['$', '#'])?;
    who.chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '-')
        .then(|| rest.trim_start())
        // A comment of a script is no prompt.
        .filter(|_| prompt != "#")
}

/// The commands of a line, in all forms that a synopsis allows.
pub fn of_line(line: &str) -> Vec<Vec<String>> {
    forms(line).iter().flat_map(|form| simple(form)).collect()
}

/// `(A | B)` is A and B; what stands in brackets may be there.
fn forms(line: &str) -> Vec<String> {
    let plain = line.replace(['[', ']'], " ");
    let choice = plain.split_once("(--").and_then(|(before, rest)| {
        let (inside, after) = rest.split_once(')')?;
        Some((before, format!("--{inside}"), after))
    });
    match choice {
        Some((before, inside, after)) => {
            inside.split(" | ").flat_map(|one| forms(&format!("{before}{one}{after}"))).collect()
        }
        None => vec![plain],
    }
}

/// Cuts a line where a shell begins another command.
fn simple(line: &str) -> Vec<Vec<String>> {
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, '|' | '&' | ';' | '(' | ')') => {
                end(&mut commands, &mut word);
                commands.push(Vec::new());
            }
            (None, '$') if chars.peek() == Some(&'(') => {}
            (None, c) if c.is_whitespace() => end(&mut commands, &mut word),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    end(&mut commands, &mut word);
    commands.iter().map(|words| without_redirections(words)).filter(|words| !words.is_empty()).collect()
}

fn end(commands: &mut [Vec<String>], word: &mut Option<String>) {
    if let (Some(command), Some(word)) = (commands.last_mut(), word.take()) {
        command.push(word);
    }
}

fn without_redirections(words: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let target = word.trim_start_matches(|c: char| c.is_ascii_digit());
        match target.strip_prefix(['<', '>']) {
            // The file is the next word.
            Some(rest) if rest.trim_start_matches('>').is_empty() => drop(words.next()),
            Some(_) => {}
            None => kept.push(word.clone()),
        }
    }
    kept
}

/// Code within the sentences of a page, by line.
pub fn in_sentences(text: &str) -> Vec<(usize, String)> {
    let mut spans = Vec::new();
    let mut in_block = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            spans.extend(line.split('`').skip(1).step_by(2).map(|span| (index + 1, span.to_owned())));
        }
    }
    spans
}

#[test]
fn commands_are_taken_out_of_what_pages_show() {
    let page = "\
        Text with `convoy status`.\n\
        ```\n\
        operator$ (umask 077 && convoy token create --node is-1 > token)\n\
        you are asked nothing\n\
        ```\n\
        ```toml\n\
        convoy = 1\n\
        ```\n\
        ```\n\
        convoy import a=b \\\n\
        \x20   --out 'c d' # a comment\n\
        convoy token create --node is-1 | ssh is-1 sudo convoy-agent setup --token-file -\n\
        # convoy nothing\n\
        ```\n";
    let shown: Vec<String> =
        in_blocks(page).iter().map(|it| format!("{} {}", it.line, it.words.join(","))).collect();
    let expected = [
        "3 umask,077",
        "3 convoy,token,create,--node,is-1",
        "10 convoy,import,a=b,--out,c d",
        "12 convoy,token,create,--node,is-1",
        "12 ssh,is-1,sudo,convoy-agent,setup,--token-file,-",
    ];
    assert_eq!(shown, expected);
    assert_eq!(in_sentences(page), [(1, "convoy status".to_owned())]);
    let forms: Vec<String> = of_line("x [--a] (--b B | --c -) [d]").iter().map(|it| it.join(" ")).collect();
    assert_eq!(forms, ["x --a --b B d", "x --a --c - d"]);
}
