//! Expressions: tokens, grammar, tree. JUEL's grammar with jinjava's additions: `if else` behind a value, filters
//! and tests that bind to the nearest value, list, dict and tuple literals, `in`, `~`, `//`, `**`, slices.

use std::sync::Arc;

use super::lex::{Lexeme, Symbol, lex};

/// An expression, parsed once when the pack is loaded.
#[derive(Debug, Clone)]
pub enum Expr {
    Literal(Literal),
    Name(Arc<str>),
    Attribute(Box<Expr>, Arc<str>),
    Index(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
    Call(Arc<str>, Vec<Expr>),
    Method(Box<Expr>, Arc<str>, Vec<Expr>),
    Filter(Box<Expr>, Arc<str>, Vec<Expr>),
    Test { input: Box<Expr>, name: Arc<str>, negated: bool, argument: Option<Box<Expr>> },
    List(Vec<Expr>),
    Dict(Vec<(Arc<str>, Expr)>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Absolute(Box<Expr>),
    Empty(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Choice(Box<Expr>, Box<Expr>, Option<Box<Expr>>),
    Named(Arc<str>, Box<Expr>),
}

#[derive(Debug, Clone)]
pub enum Literal {
    Null,
    Bool(bool),
    Long(i64),
    Double(f64),
    Text(Arc<str>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
    Concat,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}

/// Most operators and values in one expression. The largest real one has about 40.
const NODES_MAX: usize = 500;
/// Deepest brackets.
const DEPTH_MAX: usize = 40;

struct Parser<'l> {
    lexemes: &'l [Lexeme],
    at: usize,
    nodes: usize,
    depth: usize,
}

type Parsed<T = Expr> = Result<T, String>;

/// Makes a node of two operands.
type Build = fn(Box<Expr>, Box<Expr>) -> Expr;

/// Parses one expression. The error is the part of the engine's message after `Error parsing '..': `.
pub fn parse(source: &str) -> Parsed {
    let lexemes = lex(source)?;
    let mut parser = Parser { lexemes: &lexemes, at: 0, nodes: 0, depth: 0 };
    let expr = parser.required()?;
    parser.expect(Symbol::End, "}")?;
    Ok(expr)
}

/// Parses `a, b`: what `set` assigns.
pub fn parse_list(source: &str) -> Parsed<Vec<Expr>> {
    let lexemes = lex(source)?;
    let mut parser = Parser { lexemes: &lexemes, at: 0, nodes: 0, depth: 0 };
    let items = parser.items(Symbol::End)?;
    parser.expect(Symbol::End, "]")?;
    Ok(items)
}

impl Parser<'_> {
    fn symbol(&self) -> Symbol {
        self.lexemes[self.at].symbol
    }

    fn text(&self) -> &str {
        &self.lexemes[self.at].text
    }

    fn ahead(&self, n: usize) -> &Lexeme {
        &self.lexemes[(self.at + n).min(self.lexemes.len() - 1)]
    }

    fn take(&mut self) -> &Lexeme {
        let lexeme = &self.lexemes[self.at];
        self.at = (self.at + 1).min(self.lexemes.len() - 1);
        lexeme
    }

    fn accept(&mut self, symbol: Symbol) -> bool {
        let found = self.symbol() == symbol;
        if found {
            self.take();
        }
        found
    }

    fn fail<T>(&self, expected: &str) -> Parsed<T> {
        let lexeme = &self.lexemes[self.at];
        let position = lexeme.position;
        Err(format!(
            "syntax error at position {position}, encountered '{}', expected {expected}",
            lexeme.text
        ))
    }

    fn expect(&mut self, symbol: Symbol, expected: &str) -> Parsed<()> {
        if self.accept(symbol) { Ok(()) } else { self.fail(expected) }
    }

    fn count(&mut self, expr: Expr) -> Parsed {
        self.nodes += 1;
        if NODES_MAX < self.nodes {
            return Err(format!("more than {NODES_MAX} parts in one expression"));
        }
        Ok(expr)
    }

    fn required(&mut self) -> Parsed {
        match self.expr()? {
            Some(expr) => Ok(expr),
            None => self.fail("<expression>"),
        }
    }

    fn expr(&mut self) -> Parsed<Option<Expr>> {
        if DEPTH_MAX <= self.depth {
            return Err(format!("expression nests deeper than {DEPTH_MAX}"));
        }
        self.depth += 1;
        let expr = self.choice();
        self.depth -= 1;
        expr
    }

    fn choice(&mut self) -> Parsed<Option<Expr>> {
        let Some(value) = self.or()? else { return Ok(None) };
        if self.accept(Symbol::Question) {
            let then = self.required()?;
            if self.symbol() != Symbol::Colon && self.symbol() != Symbol::Else {
                return self.fail("':'");
            }
            self.take();
            let otherwise = self.required()?;
            let choice = Expr::Choice(Box::new(value), Box::new(then), Some(Box::new(otherwise)));
            return self.count(choice).map(Some);
        }
        if self.accept(Symbol::If) {
            let condition = self.required()?;
            let otherwise = if self.accept(Symbol::Else) { Some(Box::new(self.required()?)) } else { None };
            return self.count(Expr::Choice(Box::new(condition), Box::new(value), otherwise)).map(Some);
        }
        Ok(Some(value))
    }

    /// A row of left-associative operators of one rank.
    fn row(
        &mut self,
        next: fn(&mut Self) -> Parsed<Option<Expr>>,
        build: fn(&mut Self) -> Option<Build>,
    ) -> Parsed<Option<Expr>> {
        let Some(mut left) = next(self)? else { return Ok(None) };
        while let Some(build) = build(self) {
            let Some(right) = next(self)? else { return self.fail("<expression>") };
            left = self.count(build(Box::new(left), Box::new(right)))?;
        }
        Ok(Some(left))
    }

    fn or(&mut self) -> Parsed<Option<Expr>> {
        self.row(Self::and, |p| p.accept(Symbol::Or).then_some(Expr::Or as Build))
    }

    fn and(&mut self) -> Parsed<Option<Expr>> {
        self.row(Self::equality, |p| p.accept(Symbol::And).then_some(Expr::And as Build))
    }

    fn equality(&mut self) -> Parsed<Option<Expr>> {
        self.row(Self::comparison, |p| match p.symbol() {
            Symbol::Equal => p.binary(|a, b| Expr::Binary(Operator::Equal, a, b)),
            Symbol::NotEqual => p.binary(|a, b| Expr::Binary(Operator::NotEqual, a, b)),
            _ => None,
        })
    }

    fn binary(&mut self, build: Build) -> Option<Build> {
        self.take();
        Some(build)
    }

    /// Comparisons do not chain: at most one.
    fn comparison(&mut self) -> Parsed<Option<Expr>> {
        let Some(left) = self.sum()? else { return Ok(None) };
        let operator = match self.symbol() {
            Symbol::Less => Operator::Less,
            Symbol::LessOrEqual => Operator::LessOrEqual,
            Symbol::Greater => Operator::Greater,
            Symbol::GreaterOrEqual => Operator::GreaterOrEqual,
            Symbol::In => Operator::In,
            Symbol::Not if self.text() == "not" && self.ahead(1).symbol == Symbol::In => {
                self.take();
                Operator::NotIn
            }
            _ => return Ok(Some(left)),
        };
        self.take();
        let Some(right) = self.sum()? else { return self.fail("<expression>") };
        self.count(Expr::Binary(operator, Box::new(left), Box::new(right))).map(Some)
    }

    fn sum(&mut self) -> Parsed<Option<Expr>> {
        let Some(mut left) = self.product()? else { return Ok(None) };
        loop {
            let operator = match self.symbol() {
                Symbol::Plus => Operator::Add,
                Symbol::Minus => Operator::Subtract,
                Symbol::Tilde => Operator::Concat,
                Symbol::Assign => {
                    let Expr::Name(name) = &left else { return self.fail("<identifier>") };
                    let name = Arc::clone(name);
                    self.take();
                    let Some(value) = self.product()? else { return self.fail("<expression>") };
                    left = self.count(Expr::Named(name, Box::new(value)))?;
                    continue;
                }
                _ => return Ok(Some(left)),
            };
            self.take();
            let Some(right) = self.product()? else { return self.fail("<expression>") };
            left = self.count(Expr::Binary(operator, Box::new(left), Box::new(right)))?;
        }
    }

    fn product(&mut self) -> Parsed<Option<Expr>> {
        self.row(Self::unary, |p| match p.symbol() {
            Symbol::Star => p.binary(|a, b| Expr::Binary(Operator::Multiply, a, b)),
            Symbol::Slash => p.binary(|a, b| Expr::Binary(Operator::Divide, a, b)),
            Symbol::DoubleSlash => p.binary(|a, b| Expr::Binary(Operator::FloorDivide, a, b)),
            Symbol::Percent => p.binary(|a, b| Expr::Binary(Operator::Modulo, a, b)),
            Symbol::DoubleStar => p.binary(|a, b| Expr::Binary(Operator::Power, a, b)),
            _ => None,
        })
    }

    fn unary(&mut self) -> Parsed<Option<Expr>> {
        let build: fn(Box<Expr>) -> Expr = match self.symbol() {
            Symbol::Not => Expr::Not,
            Symbol::Minus => Expr::Negate,
            Symbol::Empty => Expr::Empty,
            Symbol::Absolute => Expr::Absolute,
            _ => return self.value(),
        };
        self.take();
        if DEPTH_MAX <= self.depth {
            return Err(format!("expression nests deeper than {DEPTH_MAX}"));
        }
        self.depth += 1;
        let operand = self.unary()?;
        self.depth -= 1;
        match operand {
            Some(operand) => self.count(build(Box::new(operand))).map(Some),
            None => self.fail("<expression>"),
        }
    }

    fn value(&mut self) -> Parsed<Option<Expr>> {
        let Some(mut value) = self.primary()? else { return Ok(None) };
        loop {
            value = match self.symbol() {
                Symbol::Dot => {
                    self.take();
                    if self.symbol() != Symbol::Identifier {
                        return self.fail("<identifier>");
                    }
                    let name: Arc<str> = Arc::from(self.take().text.as_str());
                    if self.symbol() == Symbol::LeftParen {
                        let arguments = self.arguments()?;
                        self.count(Expr::Method(Box::new(value), name, arguments))?
                    } else {
                        self.count(Expr::Attribute(Box::new(value), name))?
                    }
                }
                Symbol::LeftBracket => self.subscript(value)?,
                _ => return self.operators(value).map(Some),
            };
        }
    }

    fn subscript(&mut self, base: Expr) -> Parsed {
        self.take();
        let first = self.expr()?.map(Box::new);
        if self.accept(Symbol::Colon) {
            let last = self.expr()?.map(Box::new);
            self.expect(Symbol::RightBracket, "']'")?;
            return self.count(Expr::Slice(Box::new(base), first, last));
        }
        let Some(index) = first else { return self.fail("<expression>") };
        self.expect(Symbol::RightBracket, "']'")?;
        self.count(Expr::Index(Box::new(base), index))
    }

    /// Filters or one test, right behind a value.
    fn operators(&mut self, value: Expr) -> Parsed {
        if self.symbol() == Symbol::Pipe && self.ahead(1).symbol == Symbol::Identifier {
            let mut value = value;
            while self.accept(Symbol::Pipe) {
                let name: Arc<str> = Arc::from(self.take().text.as_str());
                let arguments =
                    if self.symbol() == Symbol::LeftParen { self.arguments()? } else { Vec::new() };
                value = self.count(Expr::Filter(Box::new(value), name, arguments))?;
            }
            return Ok(value);
        }
        if self.symbol() != Symbol::Identifier || self.text() != "is" {
            return Ok(value);
        }
        let negated = self.ahead(1).text == "not" && self.ahead(2).symbol.names_test();
        if !negated && !self.ahead(1).symbol.names_test() {
            return Ok(value);
        }
        self.take();
        if negated {
            self.take();
        }
        let name: Arc<str> = Arc::from(self.take().text.as_str());
        if DEPTH_MAX <= self.depth {
            return Err(format!("expression nests deeper than {DEPTH_MAX}"));
        }
        self.depth += 1;
        let argument = self.value()?.map(Box::new);
        self.depth -= 1;
        self.count(Expr::Test { input: Box::new(value), name, negated, argument })
    }

    fn primary(&mut self) -> Parsed<Option<Expr>> {
        let literal = |literal| Ok(Some(Expr::Literal(literal)));
        match self.symbol() {
            Symbol::Identifier => {
                let name: Arc<str> = Arc::from(self.take().text.as_str());
                if self.symbol() == Symbol::LeftParen {
                    let arguments = self.arguments()?;
                    return self.count(Expr::Call(name, arguments)).map(Some);
                }
                self.count(Expr::Name(name)).map(Some)
            }
            Symbol::LeftParen => self.parenthesis().map(Some),
            Symbol::LeftBracket => {
                self.take();
                let items = self.items(Symbol::RightBracket)?;
                self.expect(Symbol::RightBracket, "']'")?;
                self.count(Expr::List(items)).map(Some)
            }
            Symbol::LeftBrace => self.dict().map(Some),
            Symbol::True | Symbol::False => literal(Literal::Bool(self.take().symbol == Symbol::True)),
            Symbol::Null => {
                self.take();
                literal(Literal::Null)
            }
            Symbol::Text => literal(Literal::Text(Arc::from(self.take().text.as_str()))),
            Symbol::Integer => match self.text().parse() {
                Ok(value) => {
                    self.take();
                    literal(Literal::Long(value))
                }
                Err(_) => self.fail("<integer>"),
            },
            Symbol::Float => match self.text().parse() {
                Ok(value) => {
                    self.take();
                    literal(Literal::Double(value))
                }
                Err(_) => self.fail("<number>"),
            },
            _ => Ok(None),
        }
    }

    /// `(a)` is a value, `(a, b)` a tuple.
    fn parenthesis(&mut self) -> Parsed {
        self.take();
        let mut items = self.items_with_end(Symbol::RightParen)?;
        self.expect(Symbol::RightParen, "')'")?;
        if items.len() == 1 { Ok(items.remove(0)) } else { self.count(Expr::List(items)) }
    }

    fn arguments(&mut self) -> Parsed<Vec<Expr>> {
        self.take();
        let items = self.items(Symbol::RightParen)?;
        self.expect(Symbol::RightParen, "')'")?;
        Ok(items)
    }

    fn items_with_end(&mut self, end: Symbol) -> Parsed<Vec<Expr>> {
        let items = self.items(end)?;
        if items.is_empty() && end == Symbol::RightParen { self.fail("<expression>") } else { Ok(items) }
    }

    fn items(&mut self, end: Symbol) -> Parsed<Vec<Expr>> {
        let mut items = Vec::new();
        if self.symbol() == end {
            return Ok(items);
        }
        let Some(first) = self.expr()? else { return Ok(items) };
        items.push(first);
        while self.accept(Symbol::Comma) {
            items.push(self.required()?);
        }
        Ok(items)
    }

    fn dict(&mut self) -> Parsed {
        self.take();
        let mut entries = Vec::new();
        while let Some(key) = self.expr()? {
            let key = match key {
                Expr::Literal(Literal::Text(text)) => text,
                Expr::Name(name) => name,
                _ => return Err("Dict key must be a string or identifier".into()),
            };
            self.expect(Symbol::Colon, "':'")?;
            entries.push((key, self.required()?));
            if !self.accept(Symbol::Comma) {
                break;
            }
        }
        self.expect(Symbol::RightBrace, "'}'")?;
        self.count(Expr::Dict(entries))
    }
}
