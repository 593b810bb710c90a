//! The repository as a whole: its rules (`tidy`), the chain of all services on real servers and real models (`chain`),
//! and what hostile input does to it (`hostile`).

#[cfg(test)]
mod autoscale;
#[cfg(test)]
mod chain;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod http;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod pressure;
#[cfg(test)]
mod rolling;
#[cfg(test)]
mod switch;
#[cfg(test)]
mod tidy;
