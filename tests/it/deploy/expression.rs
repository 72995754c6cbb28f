//! Expressions of templates and portal forms: `[concat(parameters('name'), '-rule')]`.

use std::iter::Peekable;

/// One expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expression {
    /// `'text'`
    Text(String),
    /// `5`
    Number(i64),
    /// `name(…)`
    Call(String, Vec<Expression>),
    /// `….name`
    Member(Box<Expression>, String),
    /// `…[…]`
    Item(Box<Expression>, Box<Expression>),
}

use Expression::{Call, Item, Member, Number, Text};

impl Expression {
    /// What a string of a template means: `None` when it is plain text.
    pub(super) fn of(text: &str) -> Result<Option<Self>, String> {
        // `[[` stands for a bracket.
        if !text.starts_with('[') || text.starts_with("[[") {
            return Ok(None);
        }
        let inner = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let inner = inner.ok_or_else(|| format!("`{text}` does not end with `]`"))?;
        Parser {
            rest: inner.chars().peekable(),
        }
        .whole()
        .map(Some)
        .map_err(|error| format!("`{text}`: {error}"))
    }

    /// This and everything in it, from the outside in.
    pub(super) fn parts(&self) -> Vec<&Self> {
        let mut parts = vec![self];
        match self {
            Text(_) | Number(_) => {}
            Call(_, arguments) => parts.extend(arguments.iter().flat_map(Self::parts)),
            Member(of, _) => parts.extend(of.parts()),
            Item(of, index) => parts.extend(of.parts().into_iter().chain(index.parts())),
        }
        parts
    }

    /// The arguments of each call of `name`.
    pub(super) fn calls<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [Expression]> {
        self.parts().into_iter().filter_map(move |part| match part {
            Call(called, arguments) if called.eq_ignore_ascii_case(name) => Some(&arguments[..]),
            _ => None,
        })
    }

    /// The same with `change` applied to each part, from the inside out.
    pub(super) fn rewrite(&self, change: &impl Fn(Self) -> Self) -> Self {
        change(match self {
            Text(_) | Number(_) => self.clone(),
            Call(name, arguments) => {
                let arguments = arguments.iter().map(|part| part.rewrite(change));
                Call(name.clone(), arguments.collect())
            }
            Member(of, name) => Member(Box::new(of.rewrite(change)), name.clone()),
            Item(of, index) => Item(
                Box::new(of.rewrite(change)),
                Box::new(index.rewrite(change)),
            ),
        })
    }
}

struct Parser<C: Iterator<Item = char>> {
    rest: Peekable<C>,
}

impl<C: Iterator<Item = char>> Parser<C> {
    fn whole(mut self) -> Result<Expression, String> {
        let expression = self.expression()?;
        match self.next_sign() {
            None => Ok(expression),
            Some(sign) => Err(format!("`{sign}` behind its end")),
        }
    }

    fn next_sign(&mut self) -> Option<char> {
        while self.rest.next_if(|sign| sign.is_whitespace()).is_some() {}
        self.rest.peek().copied()
    }

    fn expect(&mut self, sign: char) -> Result<(), String> {
        match self.next_sign() {
            Some(found) if found == sign => {
                self.rest.next();
                Ok(())
            }
            Some(found) => Err(format!("`{found}` where `{sign}` belongs")),
            None => Err(format!("`{sign}` is missing")),
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(letter) = self
            .rest
            .next_if(|sign| sign.is_ascii_alphanumeric() || *sign == '_')
        {
            word.push(letter);
        }
        word
    }

    fn expression(&mut self) -> Result<Expression, String> {
        let mut expression = match self.next_sign() {
            Some('\'') => Text(self.text()?),
            Some(sign) if sign.is_ascii_digit() || sign == '-' => {
                self.rest.next();
                let digits = format!("{sign}{}", self.word());
                Number(
                    digits
                        .parse()
                        .map_err(|_| format!("`{digits}` is no number"))?,
                )
            }
            Some(sign) if sign.is_ascii_alphabetic() => {
                let name = self.word();
                Call(name, self.arguments()?)
            }
            Some(sign) => return Err(format!("`{sign}` where a value belongs")),
            None => return Err("a value is missing".to_owned()),
        };
        loop {
            match self.next_sign() {
                Some('.') => {
                    self.rest.next();
                    let name = self.word();
                    if name.is_empty() {
                        return Err("a name is missing behind `.`".to_owned());
                    }
                    expression = Member(Box::new(expression), name);
                }
                Some('[') => {
                    self.rest.next();
                    let index = self.expression()?;
                    self.expect(']')?;
                    expression = Item(Box::new(expression), Box::new(index));
                }
                _ => return Ok(expression),
            }
        }
    }

    fn arguments(&mut self) -> Result<Vec<Expression>, String> {
        self.expect('(')?;
        let mut arguments = Vec::new();
        if self.next_sign() != Some(')') {
            arguments.push(self.expression()?);
            while self.next_sign() == Some(',') {
                self.rest.next();
                arguments.push(self.expression()?);
            }
        }
        self.expect(')')?;
        Ok(arguments)
    }

    /// A quote in it is doubled.
    fn text(&mut self) -> Result<String, String> {
        self.expect('\'')?;
        let mut text = String::new();
        loop {
            match self.rest.next() {
                Some('\'') if self.rest.next_if_eq(&'\'').is_some() => text.push('\''),
                Some('\'') => return Ok(text),
                Some(sign) => text.push(sign),
                None => return Err("a `'` is missing".to_owned()),
            }
        }
    }
}

#[test]
fn expressions_are_read_as_azure_reads_them() {
    assert_eq!(Expression::of("plain"), Ok(None));
    assert_eq!(Expression::of("[[escaped]"), Ok(None));
    let read = Expression::of("[ f('it''s', -2, g()).a['b'] ]")
        .unwrap()
        .unwrap();
    let call = Call(
        "f".to_owned(),
        vec![
            Text("it's".to_owned()),
            Number(-2),
            Call("g".to_owned(), vec![]),
        ],
    );
    let member = Member(Box::new(call), "a".to_owned());
    assert_eq!(read, Item(Box::new(member), Box::new(Text("b".to_owned()))));
    for bad in [
        "[f(]",
        "[f('a]",
        "[f() g()]",
        "[f(,)]",
        "[f()",
        "[f().]",
        "[]",
        "[f]",
        "[f()[0]",
        "[1x]",
    ] {
        assert!(Expression::of(bad).is_err(), "{bad}");
    }
}
