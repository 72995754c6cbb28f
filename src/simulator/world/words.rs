//! Text of any length: sentences, command lines and links that look like the real thing and mean
//! nothing.

use std::fmt::{Arguments, Write as _};

use crate::simulator::dice::Dice;

const WORDS: &[&str] = &[
    "process",
    "attempted",
    "access",
    "module",
    "loaded",
    "script",
    "archive",
    "registry",
    "value",
    "service",
    "remote",
    "session",
    "signature",
    "scanner",
    "cloud",
    "policy",
    "rule",
    "matched",
    "memory",
    "section",
    "parent",
    "child",
    "thread",
    "handle",
    "network",
    "share",
    "temporary",
    "folder",
    "unsigned",
    "binary",
    "startup",
    "entry",
    "scheduled",
    "task",
    "browser",
    "extension",
    "download",
    "quarantine",
    "reputation",
    "unknown",
    "popular",
    "device",
    "user",
    "account",
    "logon",
    "token",
    "privilege",
    "driver",
    "kernel",
    "update",
    "installer",
    "macro",
    "document",
    "attachment",
    "link",
    "redirect",
    "certificate",
    "expired",
    "größe",
    "č. 7",
    "naïve",
    "日本",
];

/// Sentences of about `length` bytes.
pub(crate) fn prose(dice: &mut Dice, length: usize) -> String {
    let mut text = String::with_capacity(length + 64);
    text.push_str("Event");
    while text.len() < length {
        text.push(' ');
        text.push_str(word(dice));
        match dice.below(24) {
            0 => text.push_str(". The"),
            1 => text.push_str(",\n"),
            2 => text.push_str(" \"quoted\""),
            _ => {}
        }
    }
    text.push('.');
    text
}

/// A command line of about `length` bytes.
pub(crate) fn command_line(dice: &mut Dice, program: &str, length: usize) -> String {
    let mut text = format!("\"{program}\"");
    while text.len() < length {
        match dice.below(5) {
            0 => drop(write!(
                text,
                " /c \"C:\\ProgramData\\{}\\run.cmd\"",
                dice.hex(6)
            )),
            1 => drop(write!(
                text,
                " --{}={}",
                dice.pick(WORDS),
                dice.below(65_536)
            )),
            2 => add(&mut text, format_args!(" -Enc {}", dice.hex(40))),
            3 => drop(write!(
                text,
                " \\\\fs-{:02}\\transfer$\\{}",
                dice.below(9),
                dice.hex(5)
            )),
            _ => add(&mut text, format_args!(" -{}", word(dice))),
        }
    }
    text
}

/// A link of about `length` bytes to a host that can't exist.
pub(crate) fn link(dice: &mut Dice, length: usize) -> String {
    let mut text = format!(
        "https://{}.{}.example/{}?id={}",
        dice.hex(3),
        dice.hex(4),
        dice.hex(5),
        dice.hex(8)
    );
    while text.len() < length {
        add(
            &mut text,
            format_args!("&{}=%7B{}%7D", dice.hex(2), dice.hex(24)),
        );
    }
    text
}

fn word(dice: &mut Dice) -> &'static str {
    WORDS[dice.index(WORDS.len())]
}

fn add(text: &mut String, part: Arguments<'_>) {
    // Writing to a string can't fail.
    text.write_fmt(part).unwrap_or_default();
}
