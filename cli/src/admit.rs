//! `node admit`: shows whose key it is, has the request signed, and writes the answer that the host takes.

use std::{
    fs, io,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use crate::{
    Session, commands,
    exit::{Exit, Failure},
    render,
    request::Admit,
    screen::Format,
    view::Admitted,
};

/// Bytes of a request file that are read; the coordinator takes fewer.
const REQUEST_MAX: usize = 32 * 1024;

/// Looks, asks, has it signed, writes the answer.
///
/// # Errors
/// Nothing was signed then, unless the failure says so.
pub async fn execute(request: &Admit, session: &mut Session) -> Result<Exit, Failure> {
    let pem = read(&request.file, session)?;
    let looked = session.client.look_at_request(request, &pem).await?;
    if session.screen.format == Format::People {
        session.screen.say(&render::admission(&looked));
    }
    let question = format!("Is this the key that the host printed, and is the host to be {}?", looked.node);
    commands::confirm(session, request.confirm, &question)?;
    // Before anything is signed: an answer that cannot be written would be lost.
    let out = request.out.as_deref().map(Out::create).transpose()?;
    let admitted = match session.client.admit(request, &pem).await {
        Ok(admitted) => admitted,
        Err(failure) => {
            if let Some(out) = out {
                out.discard();
            }
            return Err(failure);
        }
    };
    let text = admitted.answer.to_text();
    if let Some(out) = out {
        out.fill(&text)?;
    }
    session.screen.programs(&Admitted {
        node: admitted.admission.node.to_string(),
        key: admitted.admission.key.to_string(),
        authority: admitted.admission.authority.to_string(),
        expires: admitted.expires,
        replaces: admitted.admission.replaces.clone(),
        answer: text.clone(),
    });
    if session.screen.format == Format::People {
        session.screen.say(&render::admitted(&admitted, request.out.as_deref()));
    }
    if request.out.is_none() {
        session.screen.people(&text);
    }
    Ok(Exit::Done)
}

fn read(file: &Path, session: &mut Session) -> Result<String, Failure> {
    let text = if file.as_os_str() == "-" {
        session.screen.input(REQUEST_MAX)
    } else {
        let mut text = String::new();
        fs::File::open(file)
            .and_then(|opened| opened.take(REQUEST_MAX as u64).read_to_string(&mut text))
            .map(|_| text)
    };
    text.map_err(|error| {
        let remedy = "name the file that `convoy-agent enroll --request FILE` wrote, or - for standard input";
        Failure::failed(format!("cannot read the request {}", file.display()), remedy).because(error)
    })
}

/// The file of an answer, made before there is one.
struct Out {
    path: PathBuf,
    file: fs::File,
}

impl Out {
    fn create(path: &Path) -> Result<Self, Failure> {
        match fs::File::create_new(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Failure::refused(
                format!("{} is there already", path.display()),
                "name another file; nothing was signed",
            )),
            Err(error) => Err(Failure::failed(
                format!("cannot write {}", path.display()),
                "name a file that can be written; nothing was signed",
            )
            .because(error)),
        }
    }

    fn fill(mut self, text: &str) -> Result<(), Failure> {
        self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all()).map_err(|error| {
            Failure::failed(
                format!("the request was signed, but {} cannot be written", self.path.display()),
                "make room, then type the same with --replace and another file",
            )
            .because(error)
        })
    }

    fn discard(self) {
        // An empty file is all that would be left; whoever finds it sees that nothing is in it.
        drop(fs::remove_file(self.path));
    }
}
