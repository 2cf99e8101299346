# Net::SMTP: send.pl HOST PORT USER KEY FROM TO CA_FILE < raw message
use strict;
use warnings;
use Net::SMTP;
my ($host, $port, $user, $key, $from, $to, $ca) = @ARGV;
my $message = do { local $/; <STDIN> };
my $smtp = Net::SMTP->new($host, Port => $port, Timeout => 20) or die "connect: $@";
$smtp->starttls(SSL_ca_file => $ca) or die 'starttls: ' . $smtp->message;
$smtp->auth($user, $key)            or die 'auth: ' . $smtp->message;
$smtp->mail($from)                  or die 'mail: ' . $smtp->message;
$smtp->to($to)                      or die 'rcpt: ' . $smtp->message;
$smtp->data($message)               or die 'data: ' . $smtp->message;
print $smtp->message;
$smtp->quit;
