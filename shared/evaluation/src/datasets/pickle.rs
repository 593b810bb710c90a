//! The part of Python's pickle that a `.bin` file needs: a machine with a stack that knows a list of opcodes and four global
//! names. It builds no object and calls nothing; lists, tuples, texts, bytes and arrays of bytes are all it can hold.

use std::collections::HashMap;

/// Steps at most: a set of 100,000 images needs some 3 million.
const MAX_STEPS: usize = 8_000_000;

/// A value. Parts are numbers of other values, so that no depth and no cycle can hurt.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Text(Span),
    Bytes(Span),
    List(Vec<usize>),
    Tuple(Vec<usize>),
    Global(Global),
    Dtype(Dtype),
    Array(Array),
}

/// Where bytes lie: in the file, or among those that were decoded from a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    decoded: bool,
    start: usize,
    pub(super) len: usize,
}

/// The names that may be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    Reconstruct,
    Ndarray,
    Dtype,
    Encode,
}

/// Types of an array's elements, one byte each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    U8,
    Bool,
}

/// A numpy array in C order, once its state is known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array {
    pub(super) shape: Vec<usize>,
    pub(super) dtype: Option<Dtype>,
    pub(super) data: Option<Span>,
}

/// A pickle that was read.
#[derive(Debug)]
pub(super) struct Pickle {
    data: Vec<u8>,
    decoded: Vec<u8>,
    nodes: Vec<Node>,
    root: usize,
}

impl Pickle {
    pub(super) fn parse(data: Vec<u8>) -> Result<Self, String> {
        let mut machine = Machine {
            pickle: Self { data, decoded: Vec::new(), nodes: Vec::new(), root: 0 },
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        for _ in 0..MAX_STEPS {
            let at = machine.at;
            match machine.step() {
                Ok(true) => {}
                Ok(false) => return Ok(machine.pickle),
                Err(problem) => return Err(format!("at byte {at}: {problem}")),
            }
        }
        Err(format!("more than {MAX_STEPS} steps"))
    }

    pub(super) fn root(&self) -> Option<&Node> {
        self.node(self.root)
    }

    pub(super) fn node(&self, id: usize) -> Option<&Node> {
        self.nodes.get(id)
    }

    pub(super) fn bytes(&self, span: Span) -> &[u8] {
        let source = if span.decoded { &self.decoded } else { &self.data };
        span.start.checked_add(span.len).and_then(|end| source.get(span.start..end)).unwrap_or(&[])
    }
}

struct Machine {
    pickle: Pickle,
    at: usize,
    stack: Vec<usize>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u64, usize>,
}

type Step<T> = Result<T, String>;

impl Machine {
    /// Whether it goes on.
    fn step(&mut self) -> Step<bool> {
        match self.number(1)? as u8 {
            // PROTO
            0x80 => {
                let version = self.number(1)?;
                if !(2..=5).contains(&version) {
                    return Err(format!("pickle protocol {version}; 2 to 5 are read"));
                }
            }
            // FRAME: only a length for those who read ahead.
            0x95 => self.number(8).map(drop)?,
            b'.' => {
                self.pickle.root = self.pop()?;
                return Ok(false);
            }
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            b'K' => self.int(1)?,
            b'M' => self.int(2)?,
            b'J' => {
                let value = self.number(4)? as u32;
                self.push(Node::Int(i64::from(value.cast_signed())));
            }
            b']' => self.push(Node::List(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.since_mark()?;
                self.push(Node::Tuple(items));
            }
            b'l' => {
                let items = self.since_mark()?;
                self.push(Node::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(items)?;
            }
            // Texts, then bytes; Python 2's strings (T, U) are bytes.
            0x8c => self.text(1)?,
            b'X' => self.text(4)?,
            0x8d => self.text(8)?,
            b'C' | b'U' => self.raw(1)?,
            b'B' | b'T' => self.raw(4)?,
            0x8e | 0x96 => self.raw(8)?,
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            0x94 => self.keep(self.memo.len() as u64)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b'c' => self.global_by_lines()?,
            0x93 => self.global_by_stack()?,
            b'R' => self.reduce()?,
            b'b' => self.build()?,
            other => return Err(format!("opcode 0x{other:02x} is not on the list of those that a .bin file needs")),
        }
        Ok(true)
    }

    fn take(&mut self, len: usize) -> Step<Span> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.pickle.data.len());
        let end = end.ok_or_else(|| format!("{len} bytes are announced, but the file ends before"))?;
        let span = Span { decoded: false, start: self.at, len };
        self.at = end;
        Ok(span)
    }

    /// An unsigned number of `len` bytes, the lowest first.
    fn number(&mut self, len: usize) -> Step<u64> {
        let span = self.take(len)?;
        Ok(self.pickle.bytes(span).iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn push(&mut self, node: Node) {
        self.stack.push(self.pickle.nodes.len());
        self.pickle.nodes.push(node);
    }

    /// The top of the stack, which never lies below the last mark.
    fn pop(&mut self) -> Step<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("the stack is empty".to_owned());
        }
        self.stack.pop().ok_or_else(|| "the stack is empty".to_owned())
    }

    fn since_mark(&mut self) -> Step<Vec<usize>> {
        let mark = self.marks.pop().ok_or("there is no mark")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn int(&mut self, len: usize) -> Step<()> {
        let value = self.number(len)?;
        self.push(Node::Int(value as i64));
        Ok(())
    }

    fn tuple(&mut self, len: usize) -> Step<()> {
        let mut items = (0..len).map(|_| self.pop()).collect::<Step<Vec<usize>>>()?;
        items.reverse();
        self.push(Node::Tuple(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<usize>) -> Step<()> {
        let list = self.stack.last().and_then(|id| self.pickle.nodes.get_mut(*id));
        let Some(Node::List(list)) = list else { return Err("something is appended to what is no list".to_owned()) };
        list.extend(items);
        Ok(())
    }

    fn counted(&mut self, width: usize) -> Step<Span> {
        let len = self.number(width)?;
        self.take(usize::try_from(len).map_err(|_| format!("{len} bytes are announced"))?)
    }

    fn text(&mut self, width: usize) -> Step<()> {
        let span = self.counted(width)?;
        self.push(Node::Text(span));
        Ok(())
    }

    fn raw(&mut self, width: usize) -> Step<()> {
        let span = self.counted(width)?;
        self.push(Node::Bytes(span));
        Ok(())
    }

    fn keep(&mut self, key: u64) -> Step<()> {
        let top = *self.stack.last().ok_or("the stack is empty")?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn remember(&mut self, width: usize) -> Step<()> {
        let key = self.number(width)?;
        self.keep(key)
    }

    fn recall(&mut self, width: usize) -> Step<()> {
        let key = self.number(width)?;
        let id = *self.memo.get(&key).ok_or_else(|| format!("nothing was remembered as {key}"))?;
        self.stack.push(id);
        Ok(())
    }

    fn line(&mut self) -> Step<Span> {
        // Names are short: no search through the whole file.
        let rest = self.pickle.data.get(self.at..).unwrap_or(&[]);
        let len = rest.iter().take(100).position(|byte| *byte == b'\n').ok_or("a name has no end")?;
        let span = self.take(len)?;
        self.take(1)?;
        Ok(span)
    }

    fn global_by_lines(&mut self) -> Step<()> {
        let (module, name) = (self.line()?, self.line()?);
        self.global(module, name)
    }

    fn global_by_stack(&mut self) -> Step<()> {
        let (name, module) = (self.pop()?, self.pop()?);
        match (self.pickle.node(module), self.pickle.node(name)) {
            (Some(Node::Text(module)), Some(Node::Text(name))) => self.global(*module, *name),
            _ => Err("the name of a global is no text".to_owned()),
        }
    }

    fn global(&mut self, module: Span, name: Span) -> Step<()> {
        let (module, name) = (self.pickle.bytes(module), self.pickle.bytes(name));
        let global = match (module, name) {
            (b"numpy.core.multiarray" | b"numpy._core.multiarray", b"_reconstruct") => Global::Reconstruct,
            (b"numpy", b"ndarray") => Global::Ndarray,
            (b"numpy", b"dtype") => Global::Dtype,
            (b"_codecs", b"encode") => Global::Encode,
            _ => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).chars().take(60).collect::<String>();
                return Err(format!(
                    "the global {:?} of {:?} is not one that is read; pickle plain bytes, or arrays with protocol 4",
                    text(name),
                    text(module)
                ));
            }
        };
        self.push(Node::Global(global));
        Ok(())
    }

    fn reduce(&mut self) -> Step<()> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Some(Node::Tuple(arguments)) = self.pickle.node(arguments) else {
            return Err("arguments are no tuple".to_owned());
        };
        let arguments: Vec<Option<&Node>> = arguments.iter().take(4).map(|id| self.pickle.node(*id)).collect();
        let node = match (self.pickle.node(callee), arguments.as_slice()) {
            (Some(Node::Global(Global::Reconstruct)), [Some(Node::Global(Global::Ndarray)), ..]) => {
                Node::Array(Array { shape: Vec::new(), dtype: None, data: None })
            }
            (Some(Node::Global(Global::Dtype)), [Some(Node::Text(kind) | Node::Bytes(kind)), ..]) => {
                match self.pickle.bytes(*kind) {
                    b"u1" | b"|u1" => Node::Dtype(Dtype::U8),
                    b"b1" | b"|b1" => Node::Dtype(Dtype::Bool),
                    _ => return Err("an array of something else than bytes (u1)".to_owned()),
                }
            }
            (Some(Node::Global(Global::Encode)), [Some(Node::Text(text)), Some(Node::Text(codec))]) => {
                if self.pickle.bytes(*codec) != b"latin1" {
                    return Err("bytes in a codec other than latin1".to_owned());
                }
                let text = *text;
                Node::Bytes(self.latin1(text)?)
            }
            _ => return Err("a call that a .bin file does not need".to_owned()),
        };
        self.push(node);
        Ok(())
    }

    /// How protocol 2 writes Python 3's bytes. Each text may be decoded once in sum: no small file grows.
    fn latin1(&mut self, text: Span) -> Step<Span> {
        let problem = "bytes that are no latin1 text";
        let source = std::str::from_utf8(self.pickle.bytes(text)).map_err(|_| problem)?;
        let decoded = source.chars().map(u8::try_from).collect::<Result<Vec<u8>, _>>().map_err(|_| problem)?;
        let start = self.pickle.decoded.len();
        if start + decoded.len() > self.pickle.data.len() {
            return Err("the same text is decoded again and again".to_owned());
        }
        let len = decoded.len();
        self.pickle.decoded.extend(decoded);
        Ok(Span { decoded: true, start, len })
    }

    fn build(&mut self) -> Step<()> {
        let state = self.pop()?;
        let Some(Node::Tuple(state)) = self.pickle.node(state) else { return Err("a state is no tuple".to_owned()) };
        let state: Vec<Option<&Node>> = state.iter().take(16).map(|id| self.pickle.node(*id)).collect();
        let object = *self.stack.last().ok_or("the stack is empty")?;
        let array = match (self.pickle.node(object), state.as_slice()) {
            // Byte order and the like, which bytes do not have.
            (Some(Node::Dtype(_)), _) => return Ok(()),
            (
                Some(Node::Array(_)),
                [
                    _,
                    Some(Node::Tuple(shape)),
                    Some(Node::Dtype(dtype)),
                    Some(Node::Bool(false)),
                    Some(Node::Bytes(data)),
                ],
            ) => Array { shape: self.shape(shape)?, dtype: Some(*dtype), data: Some(*data) },
            (Some(Node::Array(_)), _) => return Err("not the state of an array of bytes in C order".to_owned()),
            _ => return Err("a state for what has none".to_owned()),
        };
        if let Some(node) = self.pickle.nodes.get_mut(object) {
            *node = Node::Array(array);
        }
        Ok(())
    }

    fn shape(&self, shape: &[usize]) -> Step<Vec<usize>> {
        let size = |id: &usize| match self.pickle.node(*id) {
            Some(Node::Int(size)) => usize::try_from(*size).ok(),
            _ => None,
        };
        let sizes = shape.iter().take(4).map(size).collect::<Option<Vec<usize>>>();
        sizes.ok_or_else(|| "an array's shape is not of numbers".to_owned())
    }
}
