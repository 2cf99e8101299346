<?php // PHPMailer, as WordPress uses it: send.php HOST PORT USER KEY FROM TO CA_FILE; prints the message as it went out
require '/usr/share/php/libphp-phpmailer/autoload.php';
[, $host, $port, $user, $key, $from, $to, $ca] = $argv;
$mail = new PHPMailer\PHPMailer\PHPMailer(true);
$mail->isSMTP();
$mail->Host = $host;
$mail->Port = (int) $port;
$mail->SMTPAuth = true;
$mail->Username = $user;
$mail->Password = $key;
$mail->SMTPSecure = 'tls';
$mail->SMTPOptions = ['ssl' => ['cafile' => $ca]];
$mail->setFrom($from, 'Jörg from PHP');
$mail->addAddress($to);
$mail->CharSet = 'UTF-8';
$mail->Subject = 'Grüße from PHPMailer';
$mail->Body = "Hello\n.\n..from PHP\n";
$mail->send();
echo $mail->getSentMIMEMessage();
