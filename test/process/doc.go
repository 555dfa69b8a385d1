// Package process tests pen and penctl from the outside: as processes that an
// operator starts, signals, kills and overloads. What it asserts is what the
// manual promises; how the original answers is package differential's affair.
package process
