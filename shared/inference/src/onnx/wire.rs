//! Protobuf's wire format, as far as ONNX files need it. Fields are read one by one and copied as they are, so that nothing
//! of a model is lost which this release does not know.

/// A field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    /// Key and value, as they lie in the message.
    pub(super) whole: &'a [u8],
    pub(super) value: Value<'a>,
}

/// A field's value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    Number(u64),
    /// A text, a message, a packed list.
    Bytes(&'a [u8]),
    /// Four or eight bytes, which nobody here reads.
    Fixed,
}

impl<'a> Field<'a> {
    /// The value of this field, where it is a text or a message.
    pub(super) fn bytes_of(&self, number: u64) -> Option<&'a [u8]> {
        match self.value {
            Value::Bytes(bytes) if self.number == number => Some(bytes),
            _ => None,
        }
    }

    /// The value of this field, where it is a number.
    pub(super) fn number_of(&self, number: u64) -> Option<u64> {
        match self.value {
            Value::Number(value) if self.number == number => Some(value),
            _ => None,
        }
    }
}

/// The fields of a message; `None` where it is none.
pub(super) fn fields(mut message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let (field, rest) = field(message)?;
        fields.push(field);
        message = rest;
    }
    Some(fields)
}

fn field(message: &[u8]) -> Option<(Field<'_>, &[u8])> {
    let (key, rest) = varint(message)?;
    let (value, rest) = match key & 7 {
        0 => varint(rest).map(|(number, rest)| (Value::Number(number), rest))?,
        1 => (Value::Fixed, rest.get(8..)?),
        2 => {
            let (length, rest) = varint(rest)?;
            let (bytes, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (Value::Bytes(bytes), rest)
        }
        5 => (Value::Fixed, rest.get(4..)?),
        _ => return None,
    };
    let whole = message.get(..message.len() - rest.len())?;
    Some((Field { number: key >> 3, whole, value }, rest))
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

/// A field with a number.
pub(super) fn number(field: u64, value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    push_varint(&mut out, field << 3);
    push_varint(&mut out, value);
    out
}

/// A field with a text or a message.
pub(super) fn bytes(field: u64, content: &[u8]) -> Vec<u8> {
    let mut out = header(field, content.len());
    out.extend_from_slice(content);
    out
}

/// What stands before a text or a message of this length.
pub(super) fn header(field: u64, length: usize) -> Vec<u8> {
    let mut out = Vec::new();
    push_varint(&mut out, field << 3 | 2);
    push_varint(&mut out, length as u64);
    out
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let text = vec![7; 300];
        let message = [number(1, 0), number(2, 1 << 40), bytes(500, &text), vec![3 << 3 | 5, 1, 2, 3, 4]].concat();
        let fields = fields(&message).unwrap();
        assert_eq!(fields.iter().map(|field| field.number).collect::<Vec<_>>(), [1, 2, 500, 3]);
        assert_eq!((fields[0].number_of(1), fields[1].number_of(2)), (Some(0), Some(1 << 40)));
        assert_eq!((fields[1].number_of(1), fields[2].bytes_of(500)), (None, Some(text.as_slice())));
        assert_eq!(fields.iter().map(|field| field.whole).collect::<Vec<_>>().concat(), message);
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        let message = [number(1, 300), bytes(2, b"four")].concat();
        let whole = [3, message.len()];
        for end in 1..=message.len() {
            assert_eq!(fields(&message[..end]).is_some(), whole.contains(&end), "{end}");
        }
        assert!(fields(&[0x80; 11]).is_none() && fields(&[3]).is_none());
        assert!(fields(&[]).is_some_and(|fields| fields.is_empty()));
    }
}
