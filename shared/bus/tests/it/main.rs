//! The bus against a real nats-server, one for each test.

#[cfg(test)]
mod dead;
#[cfg(test)]
mod settings;
