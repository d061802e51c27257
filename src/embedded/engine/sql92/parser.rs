//! Tokens to a condition, by recursive descent: `OR` binds weakest, then `AND`, then `NOT`.

use super::lexer::{Token, tokens};
use super::{Comparison, Node, Operand};

/// Deeper nesting is refused: each level is a stack frame.
const MAX_DEPTH: usize = 64;

const KEYWORDS: [&str; 9] = ["AND", "OR", "NOT", "BETWEEN", "IN", "IS", "NULL", "TRUE", "FALSE"];

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
}

pub(super) fn parse(text: &str) -> Result<Node, String> {
    let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable(), depth: 0 };
    let node = parser.disjunction()?;
    match parser.tokens.next() {
        None => Ok(node),
        Some(token) => Err(format!("unexpected {token:?} after the end of the expression")),
    }
}

impl Parser {
    fn keyword(&mut self, keyword: &str) -> bool {
        let is = |token: &Token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(keyword));
        self.tokens.next_if(is).is_some()
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Symbol(found) if *found == symbol)).is_some()
    }

    fn expect(&mut self, found: bool, what: &str) -> Result<(), String> {
        if found { Ok(()) } else { Err(format!("expected {what}, found {:?}", self.tokens.peek())) }
    }

    fn disjunction(&mut self) -> Result<Node, String> {
        let mut node = self.conjunction()?;
        while self.keyword("OR") {
            node = Node::Or(Box::new(node), Box::new(self.conjunction()?));
        }
        Ok(node)
    }

    fn conjunction(&mut self) -> Result<Node, String> {
        let mut node = self.negation()?;
        while self.keyword("AND") {
            node = Node::And(Box::new(node), Box::new(self.negation()?));
        }
        Ok(node)
    }

    fn negation(&mut self) -> Result<Node, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH}"));
        }
        let node = if self.keyword("NOT") { Node::Not(Box::new(self.negation()?)) } else { self.predicate()? };
        self.depth -= 1;
        Ok(node)
    }

    fn predicate(&mut self) -> Result<Node, String> {
        if self.symbol("(") {
            let node = self.disjunction()?;
            let closed = self.symbol(")");
            self.expect(closed, "`)`")?;
            return Ok(node);
        }
        let left = self.operand()?;
        if let Some(comparison) = self.comparison() {
            return Ok(Node::Compare(left, comparison, self.operand()?));
        }
        if self.keyword("IS") {
            let negated = self.keyword("NOT");
            let null = self.keyword("NULL");
            self.expect(null, "NULL")?;
            return Ok(negate(Node::IsNull(left), negated));
        }
        let negated = self.keyword("NOT");
        if self.keyword("BETWEEN") {
            let low = self.operand()?;
            let and = self.keyword("AND");
            self.expect(and, "AND")?;
            return Ok(negate(Node::Between(left, low, self.operand()?), negated));
        }
        if self.keyword("IN") {
            return Ok(negate(Node::In(left, self.list()?), negated));
        }
        self.expect(!negated, "BETWEEN or IN")?;
        Ok(Node::Truth(left))
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let comparison = match self.tokens.peek()? {
            Token::Symbol("=") => Comparison::Equal,
            Token::Symbol("<>" | "!=") => Comparison::NotEqual,
            Token::Symbol("<") => Comparison::Less,
            Token::Symbol("<=") => Comparison::LessOrEqual,
            Token::Symbol(">") => Comparison::Greater,
            Token::Symbol(">=") => Comparison::GreaterOrEqual,
            _ => return None,
        };
        self.tokens.next();
        Some(comparison)
    }

    fn list(&mut self) -> Result<Vec<Operand>, String> {
        let opened = self.symbol("(");
        self.expect(opened, "`(`")?;
        let mut list = vec![self.operand()?];
        while self.symbol(",") {
            list.push(self.operand()?);
        }
        let closed = self.symbol(")");
        self.expect(closed, "`)`")?;
        Ok(list)
    }

    fn operand(&mut self) -> Result<Operand, String> {
        match self.tokens.next() {
            Some(Token::Text(text)) => Ok(Operand::Text(text)),
            Some(Token::Number(number)) => Ok(Operand::Number(number)),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("TRUE") => Ok(Operand::Boolean(true)),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("FALSE") => Ok(Operand::Boolean(false)),
            Some(Token::Word(word)) if !KEYWORDS.iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) => {
                Ok(Operand::Property(word))
            }
            other => Err(format!("expected a property, a string or a number, found {other:?}")),
        }
    }
}

fn negate(node: Node, negated: bool) -> Node {
    if negated { Node::Not(Box::new(node)) } else { node }
}
